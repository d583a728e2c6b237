"""The domain schema: which entity types and relations an LLM may use, with domain and range."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from kg.config import read_toml
from kg.errors import SchemaError, did_you_mean

_TYPE = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")
_RELATION = re.compile(r"[a-z][a-z0-9_/]{0,63}")


@dataclass(frozen=True)
class Relation:
    """A relation of a domain: `head` -name-> `tail`.

    Attributes:
        name: lower-case words joined by `_`.
        head: entity type of the head.
        tail: entity type of the tail.
        description: what the relation says, for the prompt.
        functional: at most one tail per head; a second one is a conflict that fusion reports.
    """

    name: str
    head: str
    tail: str
    description: str = ""
    functional: bool = False


@dataclass(frozen=True)
class DomainSchema:
    """The entity types and relations of a domain, e.g. films.

    Raises:
        SchemaError: if a name has a forbidden character, occurs twice, or a relation uses an undeclared type.
    """

    domain: str
    entity_types: tuple[str, ...]
    relations: tuple[Relation, ...]

    def __post_init__(self) -> None:
        """Check names, uniqueness and references."""
        for name in self.entity_types:
            _check_name(name, _TYPE, "entity type", "a capital, then letters and digits")
        seen: set[str] = set()
        for relation in self.relations:
            _check_name(relation.name, _RELATION, "relation", "lower-case letters, digits, `_` and `/`")
            if relation.name in seen:
                msg = f"relation `{relation.name}` is declared twice in schema `{self.domain}`; remove one"
                raise SchemaError(msg)
            seen.add(relation.name)
            for end in (relation.head, relation.tail):
                if end not in self.entity_types:
                    msg = (
                        f"relation `{relation.name}` uses the entity type `{end}`, which schema `{self.domain}` does "
                        f"not declare; {did_you_mean(end, self.entity_types)}"
                    )
                    raise SchemaError(msg)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a schema from TOML: `domain`, `entity_types`, and a `[[relations]]` table for each relation.

        Raises:
            ConfigError: if the file is absent or not TOML.
            SchemaError: if it does not describe a schema.
        """
        return cls.from_mapping(read_toml(path))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Build a schema from plain values.

        Raises:
            SchemaError: if a key is missing or unknown.
        """
        try:
            relations = tuple(Relation(**r) for r in values["relations"])
            return cls(values["domain"], tuple(values["entity_types"]), relations)
        except (KeyError, TypeError) as error:
            msg = f"this is no domain schema: {error}; expected `domain`, `entity_types` and `[[relations]]`"
            raise SchemaError(msg) from error

    def relation(self, name: str) -> Relation:
        """Return a relation by name.

        Raises:
            SchemaError: if the schema has no such relation; the text suggests the nearest.
        """
        for relation in self.relations:
            if relation.name == name:
                return relation
        hint = did_you_mean(name, [r.name for r in self.relations])
        msg = f"relation `{name}` is not in schema `{self.domain}`; {hint}"
        raise SchemaError(msg)


def _check_name(name: str, pattern: re.Pattern[str], what: str, rule: str) -> None:
    if not pattern.fullmatch(name):
        msg = f"{what} `{name}` is not a name; expected {rule}, at most 64 characters"
        raise SchemaError(msg)
