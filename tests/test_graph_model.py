"""The document of the graph's model names what the code has: labels, relationships, properties, constraints."""

import re
from pathlib import Path

from db.model import LABELS, STRUCTURE, stored_schema
from db.neo4j_statements import CONSTRAINTS
from kg.tables import TABLES

_DOCS = Path(__file__).parent.parent / "docs"
_TEXT = (_DOCS / "graph_model.md").read_text(encoding="utf-8")
_PICTURE = (_DOCS / "graph_model.svg").read_text(encoding="utf-8")


def test_every_label_and_relationship_is_in_it() -> None:
    assert {name for name in LABELS if name not in _TEXT + _PICTURE} == set()
    assert {name for name in STRUCTURE if name not in _PICTURE} == set()


def test_every_property_is_in_the_picture() -> None:
    ends = {"user_id", "item_id", "head", "tail"}
    columns = {column for table in TABLES for column in stored_schema(table).names} - ends
    assert {column for column in columns if not re.search(rf"\b{column}\b", _PICTURE)} == set()


def test_every_constraint_is_named() -> None:
    keys = [re.search(r"FOR \(n:(\w+)\) REQUIRE n\.(\w+)", statement) for statement in CONSTRAINTS]
    named = {f"{found[1]}.{found[2]}" for found in keys if found}
    assert {name for name in named if f"`{name}`" not in _TEXT and name != "KgliftBatch.batch"} == set()


def test_every_picture_is_there() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", _TEXT):
        assert (_DOCS / target).stat().st_size > 1_000
