"""Run the source contract on every member of the registry."""

import pytest

from kg.source import Source
from tests.contracts.source import SourceContract


@pytest.mark.parametrize("member", [pytest.param(source, id=name) for name, source in Source.members().items()])
class TestSources(SourceContract):
    """Each source with its default configuration."""
