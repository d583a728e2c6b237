"""What the engine itself costs: over HTTP, from a full ledger, and in memory."""

import time
import tracemalloc
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from pydantic import BaseModel

from extract.bench.over_http import over_http
from extract.chain import Questions
from extract.engine import EngineConfig, Extraction, extract
from extract.ledger import Ledger
from extract.ledger_rows import NewReply, StoredReply, store
from extract.method import Facts, Unit
from kg.graph import Graph
from tests.extract.asking import PROMPT, MoodMethod, moods, scripted
from tests.toy import toy_graph

pytestmark = pytest.mark.slow

N_CACHED = 100_000


def fill(path: Path, method: MoodMethod, reply: str) -> None:
    """Put a reply to every unit into a ledger, as an earlier run would have."""
    questions = Questions(method, PROMPT, "scripted", EngineConfig())
    units = method.units(toy_graph())
    with Ledger(path) as ledger:
        while batch := list(islice(units, 5_000)):
            chains = [questions.start(unit) for unit in batch]
            ledger.write(
                *(
                    store(NewReply(StoredReply(c.key, reply, False, 9, 3), questions.run, c.unit.unit_id, 1, "", (), 0))
                    for c in chains
                )
            )


def replay(path: Path, method: MoodMethod) -> tuple[Extraction, float]:
    """Return the extraction from a full ledger and the CPU seconds that it took."""
    began = time.process_time()
    provider = scripted([])
    result = extract(method, toy_graph(), provider, path)
    assert provider.n_calls == 0
    assert result.summary.cached == method.n_units
    return result, time.process_time() - began


@pytest.mark.usefixtures("_mood_prompt")
def test_a_hundred_thousand_cached_units_take_less_than_thirty_seconds(tmp_path: Path) -> None:
    method = MoodMethod(n_units=N_CACHED)
    fill(tmp_path / "ledger", method, moods("dark", "tense"))
    result, seconds = replay(tmp_path / "ledger", method)
    assert result.graph.counts()["triples"] == 2 * N_CACHED
    assert seconds < 30.0


class Weighing(MoodMethod):
    """Notes what Python holds in each pass over the units."""

    def __init__(self, n_units: int) -> None:
        super().__init__(n_units=n_units)
        self.passes: list[list[int]] = []

    def units(self, graph: Graph) -> Iterator[Unit]:
        self.passes.append([])
        for place, unit in enumerate(super().units(graph), start=1):
            if place % 10_000 == 0:
                self.passes[-1].append(tracemalloc.get_traced_memory()[0])
            yield unit

    def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
        return Facts({})


@pytest.mark.usefixtures("_mood_prompt")
def test_memory_does_not_grow_with_the_units(tmp_path: Path) -> None:
    n_units = 50_000
    fill(tmp_path / "ledger", MoodMethod(n_units=n_units), moods())
    method = Weighing(n_units)
    tracemalloc.start()
    try:
        replay(tmp_path / "ledger", method)
    finally:
        tracemalloc.stop()
    assert [len(one) for one in method.passes] == [5, 5, 5], "checked, asked, collected"
    grown = [one[-1] - one[0] for one in method.passes]
    assert max(grown) < 40_000 * 8, "not even a pointer a unit between the first 10,000 and the last"


def test_over_http_the_engine_takes_less_than_three_times_the_processor_of_aiohttp_doing_nothing_else() -> None:
    rows = {row.name: row for row in over_http(10_240)}
    assert (rows["engine"].cpu_us or 0) < 3 * (rows["aiohttp"].cpu_us or 0), rows
    assert rows["engine"].per_s > 0.1 * rows["ideal"].per_s, "one at a time it would be 0.004"
