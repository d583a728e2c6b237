"""Methods of several steps by batches, priced and retried: each step comes when the one before it is closed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from extract.batch import Batch, BatchStep
from extract.engine import EngineConfig
from extract.estimate import Estimate, estimate
from extract.ledger import Ledger
from extract.method import Method
from extract.methods.llm_kerec_style import LLMKERecStyle
from extract.methods.llmrg import LLMRG
from extract.methods.sagcn import SAGCN
from extract.provider import Request
from extract.providers.openai_api import OpenAIAPI
from extract.steps import extract_steps
from kg.graph import Graph
from tests.extract.asking import scripted
from tests.extract.test_llmrg import answers as chain_answers
from tests.extract.test_llmrg import films
from tests.extract.test_sagcn import answer as aspect_answers
from tests.toy import toy_graph

_REVIEWS = Path(__file__).parent.parent / "toy_reviews.csv"
_CHAINS = [{"items": [1, 2], "reason": "space"}, {"items": [2, 3], "reason": "horror"}]
Script = Callable[[Request], str]
Chained = tuple[Method, Graph, Script]


def llmrg(fill: str = "none of them") -> Chained:
    graph = films("1234", "125", "123", "124")
    return LLMRG(LLMRG.Config(min_interactions=2, n_rounds=2)), graph, chain_answers(_CHAINS, fill, 70, ("Solaris",))


def sagcn() -> Chained:
    return SAGCN(SAGCN.Config(reviews=_REVIEWS)), toy_graph(), aspect_answers


_METHODS = {"llmrg": llmrg, "sagcn": sagcn}


def provider() -> OpenAIAPI:
    return OpenAIAPI(OpenAIAPI.Config("http://batch.example/v1", "m"), "key")


def by_batches(chained: Chained, folder: Path, refuse_first: bool = False) -> list[BatchStep]:
    """Write, answer and read batches until nothing is open; return the steps of the files."""
    method, graph, script = chained
    written: list[BatchStep] = []
    while True:
        batch = Batch(method, graph, provider(), folder / "ledger")  # each command is a process of its own
        step = batch.write(folder / "ask.jsonl")
        if not step.open:
            return written
        written.append(step)
        lines = [json.loads(line) for line in (folder / "ask.jsonl").read_text("utf-8").splitlines()]
        assert len(lines) == step.open
        said = [script(_request(line["body"])) for line in lines]
        if refuse_first and len(written) == 1:
            said[0] = "no JSON"
        results = [_result(line["custom_id"], text) for line, text in zip(lines, said, strict=True)]
        (folder / "results.jsonl").write_text("\n".join(results), "utf-8")
        assert batch.read(folder / "results.jsonl").stored == step.open


def _request(body: dict[str, Any]) -> Request:
    system, user = (message["content"] for message in body["messages"])
    return Request(system, user, body["response_format"]["json_schema"]["schema"], 1024)


def _result(custom_id: str, text: str) -> str:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    body = {"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}
    return json.dumps({"custom_id": custom_id, "response": {"status_code": 200, "body": body}})


@pytest.mark.parametrize("name", _METHODS)
def test_batches_lead_from_step_to_step_to_the_same_facts(tmp_path: Path, name: str) -> None:
    method, graph, script = chained = _METHODS[name]()
    steps = by_batches(chained, tmp_path)
    asked = scripted(script, model=provider().model)
    direct = extract_steps(method, graph, asked, tmp_path / "direct")
    assert len(steps) > 2
    assert sum(step.open for step in steps) == asked.n_calls
    made = extract_steps(method, graph, provider(), tmp_path / "ledger")
    assert made.summary.calls == 0
    assert direct.summary.done > 0
    tables = ("entities", "triples", "hyperedges", "members", "texts")
    assert all(getattr(made.graph, table).equals(getattr(direct.graph, table)) for table in tables)


def test_each_batch_says_which_step_it_is_of(tmp_path: Path) -> None:
    assert by_batches(sagcn(), tmp_path) == [
        BatchStep("sagcn", 1, 2), BatchStep("sagcn_merge", 2, 1), BatchStep("sagcn_label", 3, 4),
    ]  # fmt: skip


def test_the_next_step_waits_for_a_refused_answer(tmp_path: Path) -> None:
    steps = by_batches(sagcn(), tmp_path, refuse_first=True)
    assert [(step.step, step.open) for step in steps[:3]] == [("sagcn", 2), ("sagcn", 1), ("sagcn_merge", 1)]


def priced(chained: Chained, path: Path, **limits: Any) -> Estimate:
    method, graph, _ = chained
    return estimate(method, graph, scripted([]), path / "ledger", EngineConfig(max_tokens=100, **limits))


def rows(found: Estimate) -> list[tuple[str, str, int, int]]:
    return [(one.step, one.state, one.counts.total, one.counts.open) for one in found.steps]


def test_steps_ahead_are_bounded_by_the_settings(tmp_path: Path) -> None:
    found = priced(llmrg(), tmp_path, completion_price=2.0)
    now, *ahead = rows(found)
    assert now == ("llmrg", "open", 2, 2)
    assert ahead == [
        ("llmrg_fill", "ahead", 36, 36), ("llmrg_score", "ahead", 36, 36),
        ("llmrg", "ahead", 2, 2), ("llmrg_extend", "ahead", 12, 12),
    ]  # fmt: skip
    each = found.steps[0].counts.prompt_tokens / 2
    assert found.steps[1].counts.prompt_tokens == round(36 * each), "as long as those of the step that is open"
    assert found.is_bound
    assert found.counts.most_completion_tokens == 100 * (2 + 36 + 36 + 2 + 12)
    assert found.counts.most_cost == pytest.approx(found.counts.most_completion_tokens * 2e-6)
    limited = priced(llmrg(), tmp_path, max_units=1)
    assert rows(limited)[1] == ("llmrg_fill", "ahead", 3, 3), "three steps of one unit each"


@pytest.mark.parametrize("name", _METHODS)
def test_no_run_asks_more_than_its_bound_and_at_the_end_nothing_is_open(tmp_path: Path, name: str) -> None:
    method, graph, script = chained = _METHODS[name]()
    before = priced(chained, tmp_path)
    asked = scripted(script)
    extract_steps(method, graph, asked, tmp_path / "ledger", EngineConfig(max_tokens=100))
    assert asked.n_calls <= before.counts.open
    after = priced(chained, tmp_path)
    assert {(state, n_open) for _, state, _, n_open in rows(after)} == {("done", 0)}
    assert after.counts.most_cost == 0.0
    assert not after.is_bound


def test_a_step_that_is_reached_is_counted_and_earlier_answers_say_how_long_later_ones_are(tmp_path: Path) -> None:
    method, graph, script = sagcn()
    extract_steps(method, graph, scripted(script), tmp_path / "ledger", EngineConfig(max_tokens=100, max_units=1))
    found = priced(sagcn(), tmp_path)
    assert rows(found) == [
        ("sagcn", "open", 2, 1), ("sagcn_merge", "ahead", 1, 1), ("sagcn_label", "ahead", 4, 4),
    ]  # fmt: skip
    with Ledger(tmp_path / "ledger") as ledger:
        assert ledger.paid_for("sagcn_label", "scripted")[0] == 1
        n_prompt, n_completion = ledger.paid_for("sagcn_label", "scripted")[1:]
    label = found.steps[2].counts
    assert (label.prompt_tokens, label.likely_completion_tokens) == (4 * n_prompt, 4 * n_completion)
    given = SAGCN(SAGCN.Config(reviews=_REVIEWS, aspects=("price",)))
    assert rows(priced((given, graph, script), tmp_path))[1] == ("sagcn_label", "open", 4, 4)


def test_the_judges_of_pairs_are_bounded_by_their_budget(tmp_path: Path) -> None:
    method = LLMKERecStyle(LLMKERecStyle.Config(max_items=4, n_entities=1, max_pairs=1000))
    assert method.later_steps(toy_graph()) == (("llm_kerec_style_pair", 6),)
    assert LLMKERecStyle(LLMKERecStyle.Config(max_pairs=0)).later_steps(toy_graph()) == ()


_LATER = {"llmrg": "score", "sagcn": "label"}


@pytest.mark.parametrize("name", _LATER)
def test_retry_asks_what_a_later_step_set_aside_and_only_that(tmp_path: Path, name: str) -> None:
    method, graph, script = _METHODS[name]()
    bad: list[str] = []

    def failing(request: Request) -> str:
        is_later = "score" in request.schema["properties"] or "<review>" in request.prompt
        if is_later and (not bad or request.prompt.startswith(bad[0])):
            bad[:] = bad or [request.prompt]
            return "no"
        return script(request)

    broken = scripted(failing)
    assert extract_steps(method, graph, broken, tmp_path / "ledger").summary.set_aside > 0
    with Ledger(tmp_path / "ledger") as ledger:
        (run,) = [run for run in ledger.runs() if ledger.units(run.run, "set_aside")]
        assert run.method == f"{name}_{_LATER[name]}"
        assert sum(ledger.retire(one.run) for one in ledger.runs()) == 1
    again = scripted(script)
    mended = extract_steps(method, graph, again, tmp_path / "ledger")
    assert again.requests[0].prompt == bad[0]
    assert mended.summary.set_aside == 0
    assert mended.graph.equals(extract_steps(method, graph, scripted(script), tmp_path / "whole").graph)
    answered = {r.prompt for r in broken.requests if not r.prompt.startswith(bad[0])}
    assert not answered & {r.prompt for r in again.requests[1:]}, "else only what follows from its answer"
    assert again.n_calls == (1 if name == "sagcn" else 4)
