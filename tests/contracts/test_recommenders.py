"""Every registered recommender keeps the contract."""

import pytest

from gnn.recommender import Recommender
from tests.contracts.recommender import RecommenderContract
from tests.gnn.conftest import _one_thread  # noqa: F401 - an autouse fixture


@pytest.mark.parametrize("member", Recommender.members().values(), ids=Recommender.members().keys(), scope="class")
class TestRecommenders(RecommenderContract):
    pass
