from pathlib import Path
from typing import Any

import pytest

from kg.errors import ConfigError, SchemaError
from kg.schema import DomainSchema

FILMS: dict[str, Any] = {
    "domain": "films",
    "entity_types": ["Item", "Person"],
    "relations": [{"name": "directed_by", "head": "Item", "tail": "Person", "functional": True}],
}
TOML = """
domain = "films"
entity_types = ["Item", "Person"]
[[relations]]
name = "directed_by"
head = "Item"
tail = "Person"
functional = true
"""


def changed(**relation: str) -> dict[str, Any]:
    return {**FILMS, "relations": [{**FILMS["relations"][0], **relation}]}


def test_a_schema_is_read_from_toml(tmp_path: Path) -> None:
    (tmp_path / "films.toml").write_text(TOML)
    schema = DomainSchema.read(tmp_path / "films.toml")
    assert schema == DomainSchema.from_mapping(FILMS)
    assert schema.relation("directed_by").functional
    with pytest.raises(ConfigError, match="does not exist"):
        DomainSchema.read(tmp_path / "absent.toml")


def test_an_unknown_relation_suggests_the_nearest() -> None:
    with pytest.raises(SchemaError, match="`directedby` is not in schema `films`; did you mean `directed_by`"):
        DomainSchema.from_mapping(FILMS).relation("directedby")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"domain": "films"}, "this is no domain schema: 'relations'; expected `domain`"),
        (changed(nmae="x"), "this is no domain schema: .*nmae"),
        (changed(head="Film"), "uses the entity type `Film`, which schema `films` does not declare; Known: Item"),
        (changed(tail="Persn"), "uses the entity type `Persn`.*did you mean `Person`"),
        (changed(name="r`) DELETE (n"), "relation `r`. DELETE .n` is not a name; expected lower-case letters"),
        (changed(name="r" * 65), "is not a name; .* at most 64 characters"),
        ({**FILMS, "entity_types": ["Item", "Person", "a thing"]}, "entity type `a thing` is not a name"),
        ({**FILMS, "relations": FILMS["relations"] * 2}, "relation `directed_by` is declared twice in schema `films`"),
        ({**FILMS, "relations": 3}, "this is no domain schema"),
    ],
)
def test_a_schema_that_contradicts_itself_is_refused(values: dict[str, Any], text: str) -> None:
    with pytest.raises(SchemaError, match=text):
        DomainSchema.from_mapping(values)
