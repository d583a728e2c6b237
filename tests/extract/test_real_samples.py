"""Every method on real data, answered by what a small local model said: its graph is stored, read back and counted."""

from collections import Counter
from pathlib import Path

import pytest

from db.store import GraphStore
from extract.engine import EngineConfig, Extraction
from extract.method import Method
from extract.providers.replay import Replay
from extract.steps import extract_steps
from kg.check import check
from kg.graph import Graph, concat
from tests.db.servers import empty_store
from tests.extract.real_samples import REPLIES, SAMPLES, sample

pytestmark = pytest.mark.slow
_MODEL = "SmolLM2-135M-Instruct.Q4_1"
_UNITS = {"item_facts": 15, "llmhg": 12, "llmrg": 38, "sagcn": 21, "llm_kerec_style": 24}
_FACTS = {
    "item_facts": {
        **{"for_audience": 21, "has_mood": 21, "has_theme": 21, "made_by": 22},
        **{"set_in": 21, "set_in_period": 22, "similar_to": 1},
    },
    "llmhg": {"has_interest": 15, "interest": 31},
    "llmrg": {"reasoning": 2, "reasoning_chain": 2},
    "sagcn": {"aspect/a_good": 12},
    "llm_kerec_style": {"complements": 24, "has_entity": 15, "substitutes": 8},
}


@pytest.fixture(scope="module", params=SAMPLES)
def extracted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, Extraction]:
    """Return the data set, and what the method of this name made of the recorded answers."""
    graph, method = sample(request.param)
    provider = Replay(Replay.Config(REPLIES / f"{request.param}-smollm2-135m-real.jsonl", _MODEL))
    ledger = tmp_path_factory.mktemp(request.param) / "ledger"
    return graph, extract_steps(method, graph, provider, ledger, EngineConfig(max_tokens=400))


@pytest.fixture(params=GraphStore.members().values(), ids=GraphStore.members())
def store(request: pytest.FixtureRequest, tmp_path: Path) -> GraphStore:
    """Return an empty store of each kind; Neo4j skips where no server can be had."""
    return empty_store(request.param, tmp_path / "store", request)


def test_no_method_is_left_out() -> None:
    assert set(SAMPLES) == set(Method.members()) == set(_UNITS)


def test_a_graph_of_real_answers_is_stored_read_back_and_counted(
    extracted: tuple[Graph, Extraction], store: GraphStore
) -> None:
    data, result = extracted
    summary = result.summary
    assert summary.total == _UNITS[summary.method] == summary.done + summary.empty + summary.rejected
    assert check(concat(data, result.graph)).is_clean
    store.write(result.graph)
    read = store.read()
    assert read.equals(result.graph.canonical())
    counted = Counter(read.triples["relation"].to_pylist()) + Counter(read.hyperedges["relation"].to_pylist())
    assert counted == _FACTS[summary.method]
    assert set(read.sources["model"].to_pylist()) == {_MODEL}
