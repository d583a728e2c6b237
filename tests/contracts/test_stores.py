"""Run the store contract on every member of the registry."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from db.store import GraphStore
from tests.contracts.store import StoreContract
from tests.contracts.store_questions import RunContract, SavedQueryContract
from tests.db.servers import config_fields, empty_store

_MEMBERS = [
    pytest.param(store, id=name, marks=[pytest.mark.slow] if "uri" in config_fields(store) else [])
    for name, store in GraphStore.members().items()
]


@pytest.mark.parametrize("member", _MEMBERS)
class TestStores(StoreContract, SavedQueryContract, RunContract):
    """Each store, by its configuration: one with a `uri` gets a server, one with a `path` a new file."""

    @pytest.fixture
    def new_store(
        self, member: type[GraphStore], tmp_path: Path, request: pytest.FixtureRequest
    ) -> Callable[[], GraphStore]:
        counter = itertools.count()
        return lambda: empty_store(member, tmp_path / f"store-{next(counter)}", request)
