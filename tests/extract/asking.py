"""A small method, its prompt and its answers, for tests of the engine."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from extract.engine import EngineConfig, Extraction, extract
from extract.method import Facts, Method, Rejected, Unit
from extract.providers.scripted import Script, Scripted
from extract.template import Prompt, parse_prompt
from kg.graph import Graph
from kg.terms import ITEM
from tests.toy import toy_graph

PROMPT = parse_prompt("mood", "v1", "# system\nSay the moods.\n# user\nItem {{ name }}\n")


class Moods(BaseModel):
    moods: list[str] = Field(max_length=4)


class MoodMethod(Method):
    """Asks for the moods of each item; not in the registry."""

    name = "mood"
    prompt = "mood.v1"
    Reply = Moods

    def __init__(self, shown: tuple[tuple[str, str], ...] = (), n_units: int | None = None) -> None:
        super().__init__(None)
        self.shown, self.n_units = shown, n_units

    def units(self, graph: Graph) -> Iterator[Unit]:
        if self.n_units is not None:
            for n in range(self.n_units):
                yield Unit(f"unit:{n}", {"name": f"number {n}"})
            return
        for item in graph.ids_of(ITEM):
            yield Unit(item, {"name": item}, self.shown)

    def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
        assert isinstance(reply, Moods)
        head = unit.unit_id if unit.unit_id.startswith("item:") else f"item:{int(unit.unit_id[5:]) % 8 + 1}"
        rows: dict[str, list[dict[str, Any]]] = {"entities": [], "triples": []}
        rejected = [Rejected("too_long", mood) for mood in reply.moods if len(mood) > 20]
        for mood in reply.moods:
            if len(mood) <= 20:
                tail = f"mood:{mood}"
                rows["entities"].append({"entity_id": tail, "type": "Mood", "name": mood})
                rows["triples"].append({"head": head, "relation": "has_mood", "tail": tail, "confidence": 0.5})
        return Facts(rows, rejected)


def moods(*names: str) -> str:
    """Return a valid reply."""
    return json.dumps({"moods": list(names)})


def prompt(stem: str) -> Prompt:
    """Stand in for `load_prompt`."""
    assert stem == MoodMethod.prompt
    return PROMPT


def scripted(script: Script, **config: Any) -> Scripted:
    return Scripted(Scripted.Config(**config), script)


def run(path: Path, script: Script, method: MoodMethod | None = None, **config: Any) -> tuple[Extraction, Scripted]:
    provider = scripted(script)
    result = extract(method or MoodMethod(), toy_graph(), provider, path / "ledger", EngineConfig(**config))
    return result, provider


def check_totals(result: Extraction) -> None:
    s = result.summary
    assert s.done + s.empty + s.rejected + s.set_aside == s.total
    assert s.cached + s.asked == s.total
    assert sum(r.count for r in s.set_aside_reasons.values()) == s.set_aside
    assert result.graph.counts()["triples"] == sum(s.facts.get("triples", {}).values())
    assert len(result.graph.sources) == s.done
    json.dumps(s.to_dict(), ensure_ascii=False).encode()
