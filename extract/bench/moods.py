"""A small question and its answer, to time the engine with: a method's own work is left out."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from extract.method import Facts, Method, Unit
from kg.graph import Graph
from kg.terms import ITEM

REPLY = json.dumps({"moods": ["dark", "tense"]})


class Reply(BaseModel):
    """What is asked for."""

    model_config = ConfigDict(extra="forbid")
    moods: list[str] = Field(max_length=2)


class Moods(Method):
    """Ask for the moods of an item; not in the registry.

    Source:
        None: the smallest question that gives facts.

    Deviations:
        None.
    """

    prompt = "bench.v1"
    Reply = Reply

    def __init__(self) -> None:
        super().__init__(None)

    def units(self, graph: Graph) -> Iterator[Unit]:
        """Yield a question for each item.

        Args:
            graph: its items.
        """
        for item in graph.ids_of(ITEM):
            yield Unit(item, {"title": item})

    def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
        """Return a fact for each mood."""
        entities: list[dict[str, Any]] = []
        triples: list[dict[str, Any]] = []
        for mood in reply.model_dump()["moods"]:
            entities.append({"entity_id": f"mood:{mood}", "type": "Mood", "name": mood})
            triples.append({"head": unit.unit_id, "relation": "has_mood", "tail": f"mood:{mood}", "confidence": 0.5})
        return Facts({"entities": entities, "triples": triples})


def made_items(n_items: int) -> Graph:
    """Make a catalogue of so many items."""
    ids = (f"item:{n}" for n in range(n_items))
    return Graph.from_rows(entities=[{"entity_id": one, "type": ITEM, "name": one} for one in ids])
