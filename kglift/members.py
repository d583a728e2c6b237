"""What there is of each family: sources, methods, providers, stores, models."""

import inspect
from collections.abc import Iterator

from db.store import GraphStore
from extract.method import Method
from extract.provider import Provider
from gnn.recommender import Recommender
from kg.registry import Registered
from kg.source import Source

FAMILIES: dict[str, type[Registered]] = {
    "source": Source,
    "method": Method,
    "provider": Provider,
    "store": GraphStore,
    "model": Recommender,
}


def list_members() -> Iterator[tuple[str, str, str]]:
    """Yield (family, name, the first sentence of the docstring) of every member."""
    for family, base in FAMILIES.items():
        for name, member in base.members().items():
            yield family, name, (inspect.getdoc(member) or "").partition("\n")[0]


def markdown_table() -> str:
    """Return the table of members that stands in the README."""
    rows = [f"| {family} | `{name}` | {what} |" for family, name, what in list_members()]
    return "\n".join(["| family | name | what it does |", "|---|---|---|", *rows])
