"""The contract of an extraction method: units in, facts out; the engine does everything else."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import BaseModel

from kg.errors import ConfigError
from kg.graph import Graph
from kg.registry import Registered
from kg.similar import Encoder


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
        rows: table name (entities, triples, hyperedges, members, texts) -> row dictionaries. A triple may have a
            `quote`, the words that state it: the engine keeps it only if they stand in what the unit shows.
        rejected: what was dropped, and why.
        n_grounded: names that were found in the catalogue; those that were not stand in `rejected`.
    """

    rows: Mapping[str, list[dict[str, Any]]]
    rejected: list[Rejected] = field(default_factory=list)
    n_grounded: int = 0


class Method(Registered, package="extract.methods"):
    """One published way of turning items, reviews or histories into graph facts; a member is one file.

    A member gives a nested frozen `Config`, the pydantic model `Reply`, the `prompt` (stem of a file in
    `extract/prompts/`, version in the name: a changed wording is a new version), `units` and `facts`. Where the config
    narrows the reply (a domain's relations), `__init__` sets a narrower `Reply` on the instance.

    A method of several steps is the first of them; `then` gives the next, made of what is known by then, and `conclude`
    makes the final graph of what all steps found. Steps after the first are not registered; `later_prompts` names what
    they ask with.

    Attributes:
        encode: a sentence encoder, given by who runs a method whose `Config` has a `min_meaning` below 1.
    """

    prompt: ClassVar[str]
    later_prompts: ClassVar[tuple[str, ...]] = ()
    Config: ClassVar[type[Any]]
    Reply: type[BaseModel]
    encode: Encoder | None = None

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def units(self, graph: Graph) -> Iterator[Unit]:
        """Yield the questions, in a fixed order; nothing but `train` interactions may be shown."""

    @abstractmethod
    def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
        """Turn a validated reply into rows; pure, never raises on any valid reply."""

    def then(self, known: Graph) -> "Method | None":
        """Return the next step; None after the last.

        Args:
            known: the data set and what all steps found so far.
        """
        return None

    def later_steps(self, graph: Graph) -> Sequence[tuple[str, int]]:
        """Return the steps that may follow this one, in order, each with the most questions that it may have.

        Args:
            graph: the data set, without answers.
        """
        return ()

    def conclude(self, found: Graph, known: Graph) -> tuple[Graph, Sequence[Rejected]]:
        """Make the final graph, once, after the last step.

        Args:
            found: what all steps found.
            known: the same with the data set.

        Returns:
            The graph of the method, and what was dropped.
        """
        return found, ()


def check_ranges(config: Any, bounds: Mapping[str, tuple[float, float]]) -> None:
    """Check numbers of a configuration.

    Args:
        config: holds them as attributes.
        bounds: name -> smallest and largest value.

    Raises:
        ConfigError: naming the first that is out of range.
    """
    for name, (low, high) in bounds.items():
        value = getattr(config, name)
        if not low <= value <= high:
            msg = f"`{name}` is {value}; expected a value from {low} to {high}"
            raise ConfigError(msg)
