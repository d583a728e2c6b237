"""The contract of an extraction method: units in, facts out; the engine does everything else."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import BaseModel

from kg.graph import Graph
from kg.registry import Registered


@dataclass(frozen=True)
class Unit:
    """One question to the LLM.

    Attributes:
        unit_id: stable id, e.g. the item's or user's entity id.
        variables: what the prompt template is filled with; plain JSON values.
        shown: (user_id, item_id) of every interaction that the prompt shows; only `train` ones are allowed.
    """

    unit_id: str
    variables: Mapping[str, Any]
    shown: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Rejected:
    """A part of a reply that became no fact.

    Attributes:
        reason: a short fixed code, e.g. `unknown_relation`, `not_in_catalogue`; counted in the report.
        what: the rejected words.
    """

    reason: str
    what: str


@dataclass(frozen=True)
class Facts:
    """Rows that one reply gave, without their `source` column: the engine writes it.

    Attributes:
        rows: table name (entities, triples, hyperedges, members, texts) -> row dictionaries.
        rejected: what was dropped, and why.
    """

    rows: Mapping[str, list[dict[str, Any]]]
    rejected: list[Rejected] = field(default_factory=list)


class Method(Registered, package="extract.methods"):
    """One published way of turning items, reviews or histories into graph facts; a member is one file.

    A member gives a nested frozen `Config`, the pydantic model `Reply`, the `prompt` (stem of a file in
    `extract/prompts/`, version in the name: a changed wording is a new version), `units` and `facts`. Where the config
    narrows the reply (a domain's relations), `__init__` sets a narrower `Reply` on the instance.
    """

    prompt: ClassVar[str]
    Config: ClassVar[type[Any]]
    Reply: type[BaseModel]

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def units(self, graph: Graph) -> Iterator[Unit]:
        """Yield the questions, in a fixed order; nothing but `train` interactions may be shown."""

    @abstractmethod
    def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
        """Turn a validated reply into rows; pure, never raises on any valid reply."""
