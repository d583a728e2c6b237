"""What the engine promises: asked once, counted, kept, the same result whatever came first."""

import asyncio
import json
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from extract.engine import EngineConfig, Extraction, extract
from extract.errors import PromptError, UnitError
from extract.ledger import Ledger
from extract.ledger_rows import STATES
from extract.method import Facts, Unit
from extract.provider import Completion, Request
from extract.providers.scripted import Scripted
from extract.template import parse_prompt
from kg.errors import ConfigError, LeakError, SchemaError
from kg.graph import Graph, concat
from tests.extract.asking import PROMPT, MoodMethod, check_totals, moods, prompt, run, scripted
from tests.toy import ITEMS, toy_graph

pytestmark = pytest.mark.usefixtures("_mood_prompt")


def test_facts_come_with_source_and_fit_the_base(tmp_path: Path) -> None:
    base = toy_graph()
    result, provider = run(tmp_path, lambda r: moods("dark", "tense"), MoodMethod(shown=(("user:1", "item:1"),)))
    check_totals(result)
    graph = result.graph
    (triple,) = [t for t in graph.triples.to_pylist() if t["head"] == "item:2" and t["tail"] == "mood:tense"]
    source = {s["source"]: s for s in graph.sources.to_pylist()}[triple["source"]]
    assert source["source"].startswith("llm:")
    assert (source["kind"], source["model"], source["prompt"]) == ("llm", "scripted", "mood")
    assert (source["prompt_version"], source["unit"], source["reply"]) == ("v1", "item:2", moods("dark", "tense"))
    assert source["shown"] == [{"user_id": "user:1", "item_id": "item:1"}]
    fused = concat(base, graph)
    assert len(fused.entities) == len(base.entities) + 1
    assert len(fused.triples) == len(base.triples) + 16
    assert provider.n_closed == 1


def test_a_second_run_pays_nothing_and_makes_the_same_graph(tmp_path: Path) -> None:
    first, _ = run(tmp_path, lambda r: moods("dark"))
    second, provider = run(tmp_path, [])
    assert provider.n_calls == 0
    assert second.graph.equals(first.graph)
    s = second.summary
    assert (s.cached, s.asked, s.calls, s.prompt_tokens) == (8, 0, 0, 0)
    assert (s.paid_replies, s.paid_tokens) == (8, first.summary.prompt_tokens + first.summary.completion_tokens)
    check_totals(second)


def test_the_order_of_replies_does_not_matter(tmp_path: Path) -> None:
    class Uneven(Scripted):
        async def complete(self, request: Request) -> Completion:
            await asyncio.sleep(random.Random(request.unit_id + str(self.config.latency_s)).random() / 50)
            return await super().complete(request)

    def run_with(latency_s: float) -> Graph:
        provider = Uneven(Scripted.Config(latency_s=latency_s), lambda r: moods(r.unit_id, "Dark", "dark"))
        return extract(MoodMethod(), toy_graph(), provider, tmp_path / str(latency_s)).graph

    one, other = run_with(0.0), run_with(0.001)
    assert one.tables() == other.tables()


def test_an_invalid_reply_is_asked_again_with_its_errors(tmp_path: Path) -> None:
    def script(request: Request) -> str:
        return moods("dark") if "refused" in request.prompt else '{"moods": "dark"}'

    result, provider = run(tmp_path, script, max_units=1)
    assert result.summary.done == 1
    assert provider.requests[1].prompt.startswith(provider.requests[0].prompt)
    assert "- moods: Input should be a valid" in provider.requests[1].prompt
    check_totals(result)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("no JSON", "invalid_json"),
        ('{"moods": 1}', "invalid_reply"),
        (Completion(moods("dark"), 5, 5, is_cut_off=True), "cut_off"),
        ("\ud800", "invalid_json"),
    ],
)
def test_a_unit_without_valid_reply_is_set_aside_and_the_run_goes_on(
    tmp_path: Path, reply: str | Completion, reason: str
) -> None:
    def script(request: Request) -> str | Completion:
        return reply if request.unit_id == "item:3" else moods("dark")

    result, provider = run(tmp_path, script, max_attempts=2)
    assert (result.summary.done, result.summary.set_aside) == (7, 1)
    assert result.summary.set_aside_reasons[reason].examples == ("item:3",)
    assert provider.n_calls == 9
    again, provider = run(tmp_path, script, max_attempts=2)
    assert provider.n_calls == 0, "a refused reply was paid for too"
    assert again.summary.set_aside == 1
    more, provider = run(tmp_path, script, max_attempts=3)
    assert provider.n_calls == 1, "one more attempt is one more call"
    check_totals(more)


def test_set_aside_units_can_be_retried(tmp_path: Path) -> None:
    run(tmp_path, lambda r: "no", max_units=2)
    with Ledger(tmp_path / "ledger") as ledger:
        (run_of_both,) = ledger.runs()
        assert (run_of_both.method, run_of_both.prompt_version, run_of_both.model) == ("mood", "v1", "scripted")
        found = run_of_both.run
        assert ledger.counts(found) == {**dict.fromkeys(STATES, 0), "set_aside": 2}
        assert [(u.unit_id, u.attempts, u.reason) for u in ledger.units(found, "set_aside")] == [
            ("item:1", 3, "invalid_json"),
            ("item:2", 3, "invalid_json"),
        ]
        assert ledger.retire(found) == 2
    result, provider = run(tmp_path, lambda r: moods("dark"), max_units=2)
    assert (result.summary.done, provider.n_calls) == (2, 2)
    assert result.summary.paid_replies == 8


def test_a_unit_whose_refused_replies_an_earlier_run_paid_for_can_be_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n, asked in enumerate((PROMPT, replace(PROMPT, sha="of the same text, written otherwise"))):
        monkeypatch.setattr("extract.engine.load_prompt", lambda stem, asked=asked: asked)
        result, provider = run(tmp_path, lambda r: "no" if r.unit_id == "item:2" else moods("dark"), max_units=2)
        assert (result.summary.set_aside, provider.n_calls) == (1, 0 if n else 4)
    with Ledger(tmp_path / "ledger") as ledger:
        first, second = (one.run for one in ledger.runs())
        assert ledger.retire(second) == 1
        assert ledger.paid(first)[0] == 4
    result, provider = run(tmp_path, lambda r: moods("dark"), max_units=2)
    assert (result.summary.done, provider.n_calls) == (2, 1)


def test_a_changed_prompt_asks_again_and_keeps_the_old_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, lambda r: moods("dark"))
    text = "# system\nSay the moods.\n# user\nThe item {{ name }}\n"
    monkeypatch.setattr("extract.engine.load_prompt", lambda stem: parse_prompt("mood", "v2", text))
    result, provider = run(tmp_path, lambda r: moods("light"))
    assert provider.n_calls == 8
    assert set(result.graph.sources["prompt_version"].to_pylist()) == {"v2"}
    monkeypatch.setattr("extract.engine.load_prompt", prompt)
    result, provider = run(tmp_path, [])
    assert (provider.n_calls, result.summary.done) == (0, 8)


@pytest.mark.parametrize("changed", [{"seed": 1}, {"temperature": 0.5}, {"max_tokens": 99}])
def test_other_parameters_are_another_question(tmp_path: Path, changed: dict[str, Any]) -> None:
    run(tmp_path, lambda r: moods("dark"))
    _, provider = run(tmp_path, lambda r: moods("dark"), **changed)
    assert provider.n_calls == 8


def test_another_model_is_another_question(tmp_path: Path) -> None:
    run(tmp_path, lambda r: moods("dark"))
    other = scripted(lambda r: moods("light"), model="other")
    result = extract(MoodMethod(), toy_graph(), other, tmp_path / "ledger")
    assert other.n_calls == 8
    assert set(result.graph.sources["model"].to_pylist()) == {"other"}


def test_units_that_ask_the_same_share_a_reply(tmp_path: Path) -> None:
    class Same(MoodMethod):
        def units(self, graph: Graph) -> Iterator[Unit]:
            return (Unit(item, {"name": "the same"}) for item in ITEMS)

    provider = scripted(lambda r: moods("dark"), latency_s=0.02)
    result = extract(Same(), toy_graph(), provider, tmp_path / "ledger")
    assert provider.n_calls == 1
    assert (result.summary.done, result.summary.asked, result.summary.cached) == (8, 1, 7)
    check_totals(result)


@pytest.mark.parametrize(
    "pair", [("user:1", "item:4"), ("user:1", "item:3"), ("user:9", "item:1"), ("user:1", "item:8")]
)
def test_a_unit_that_shows_more_than_train_stops_everything(tmp_path: Path, pair: tuple[str, str]) -> None:
    provider = scripted(lambda r: moods("dark"))
    with pytest.raises(LeakError, match=f"`item:1` shows the interaction .`{pair[0]}`, `{pair[1]}`.*nothing was sent"):
        extract(MoodMethod(shown=(("user:1", "item:2"), pair)), toy_graph(), provider, tmp_path / "ledger")
    assert provider.n_calls == 0


def test_two_units_of_one_name_stop_everything(tmp_path: Path) -> None:
    class Twice(MoodMethod):
        def units(self, graph: Graph) -> Iterator[Unit]:
            return (Unit("item:1", {"name": str(n)}) for n in range(2))

    with pytest.raises(UnitError, match="asks about `item:1` twice"):
        run(tmp_path, [], Twice())


def test_variables_that_do_not_fit_the_prompt_stop_everything(tmp_path: Path) -> None:
    class Odd(MoodMethod):
        def units(self, graph: Graph) -> Iterator[Unit]:
            yield Unit("item:1", {"title": "x"})

    with pytest.raises(PromptError, match="needs the variable `name`, got title"):
        run(tmp_path, [], Odd())


def test_rows_that_do_not_fit_are_counted_not_raised(tmp_path: Path) -> None:
    class Sloppy(MoodMethod):
        def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
            def triple(tail: Any, confidence: Any) -> dict[str, Any]:
                return {"head": unit.unit_id, "relation": "has_mood", "tail": tail, "confidence": confidence}

            edge = f"h:{unit.unit_id}"
            return Facts(
                {
                    "entities": [{"entity_id": "person:anna", "type": "Ghost", "name": "anna"}],
                    "triples": [
                        triple("mood:dark", 0.5),
                        triple("mood:dark", 0.9),
                        triple("mood:nowhere", 0.5),
                        triple("mood:dark", 7.0),
                        triple("mood:dark", float("nan")),
                        triple(None, 0.5),
                        triple("\ud800", 0.5),
                        triple(edge, 0.5),
                    ],
                    "hyperedges": [
                        {"hyperedge_id": edge, "relation": "angle", "weight": 1.0},
                        {"hyperedge_id": "h:empty", "relation": "angle", "weight": 1.0},
                        {"hyperedge_id": "h:all", "relation": "angle", "weight": 1.0},
                    ],
                    "members": [
                        {"hyperedge_id": edge, "entity_id": "item:1", "role": "item", "position": 0},
                        {"hyperedge_id": "h:all", "entity_id": "item:1", "role": "item"},
                        {"hyperedge_id": "h:other", "entity_id": "item:1", "role": "item"},
                        {"hyperedge_id": edge, "entity_id": "item:99", "role": "item"},
                    ],
                    "texts": [
                        {"entity_id": edge, "kind": "name", "text": "x"},
                        {"entity_id": "y", "kind": "k", "text": "x"},
                    ],
                }
            )

    result, _ = run(tmp_path, lambda r: moods("dark"), Sloppy(), max_units=2)
    rejects = {reason: r.count for reason, r in result.summary.rejects.items()}
    assert rejects == {
        "bad_row": 8,
        "unknown_entity": 8,
        "conflicting_type": 2,
        "no_member": 2,
        "unknown_hyperedge": 2,
    }
    assert "item:99" in "".join(result.summary.rejects["unknown_entity"].examples)
    counts = result.graph.counts()
    assert (counts["triples"], counts["hyperedges"], counts["members"], counts["texts"]) == (2, 3, 3, 2)
    assert result.summary.duplicates == 2 + 1 + 1
    check_totals(result)
    assert result.summary.facts["hyperedges"] == {"angle": 3}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({"interactions": []}, "method `mood` gives rows of the table `interactions`"),
        ({"triples": [{"haed": "x"}]}, "gives the column `haed` of `triples`; did you mean `head`"),
    ],
)
def test_a_method_that_breaks_its_contract_is_told(tmp_path: Path, rows: dict[str, Any], words: str) -> None:
    class Broken(MoodMethod):
        def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
            return Facts(rows)

    with pytest.raises(SchemaError, match=words):
        run(tmp_path, lambda r: moods("dark"), Broken(), max_units=1)


def test_a_method_that_fails_is_named_with_its_unit(tmp_path: Path) -> None:
    class Failing(MoodMethod):
        def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
            return Facts({"triples": [{"head": [][0]}]})

    with pytest.raises(IndexError) as caught:
        run(tmp_path, lambda r: moods("dark"), Failing())
    assert "method `mood` failed on unit `item:1`" in caught.value.__notes__[0]


def test_states_of_units_are_told_apart(tmp_path: Path) -> None:
    replies = {"item:1": moods("dark"), "item:2": moods(), "item:3": moods("x" * 30), "item:4": "no"}
    result, _ = run(tmp_path, lambda r: replies[r.unit_id], max_units=4)
    s = result.summary
    assert (s.done, s.empty, s.rejected, s.set_aside) == (1, 1, 1, 1)
    assert s.rejects["too_long"].examples == ("x" * 30,)
    check_totals(result)


def test_progress_is_told_after_every_unit(tmp_path: Path) -> None:
    seen: list[tuple[int, int | None, str]] = []
    provider = scripted(lambda r: moods("dark"))
    graph = toy_graph()
    extract(MoodMethod(), graph, provider, tmp_path / "ledger", progress=lambda *a: seen.append(a))  # type: ignore[arg-type]
    assert [done for done, _, _ in seen] == list(range(1, 9))
    assert seen[-1][1:] == (8, "8 asked, 0 from the ledger, 0 set aside")


def test_cost_is_counted_by_the_price_list(tmp_path: Path) -> None:
    script = lambda r: Completion(moods("dark"), 100, 50)  # noqa: E731
    result, _ = run(tmp_path, script, prompt_price=2.0, completion_price=8.0)
    assert result.summary.cost == pytest.approx(8 * (100 * 2 + 50 * 8) / 1e6)
    again, _ = run(tmp_path, [], prompt_price=2.0, completion_price=8.0)
    assert (again.summary.cost, again.summary.paid_cost) == (0.0, pytest.approx(result.summary.cost))


def test_it_runs_inside_a_notebook(tmp_path: Path) -> None:
    async def cell() -> Extraction:
        return run(tmp_path, lambda r: moods("dark"))[0]

    assert asyncio.run(cell()).summary.done == 8


def test_no_units_give_an_empty_graph(tmp_path: Path) -> None:
    result, provider = run(tmp_path, [], max_units=0)
    assert (result.summary.total, provider.n_calls) == (0, 0)
    assert set(result.graph.counts().values()) == {0}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"max_attempts": 0}, "`max_attempts` is 0; expected more than 0"),
        ({"timeout_s": float("nan")}, "`timeout_s` is nan"),
        ({"max_units": -1}, "`max_units` is -1; expected 0 or more"),
        ({"budget_cost": -1.0, "prompt_price": 1.0}, "`budget_cost` is -1.0; expected 0 or more"),
        ({"budget_cost": 5.0}, "`budget_cost` is 5, but nothing has a price; give `prompt_price` and"),
    ],
)
def test_a_config_that_cannot_be(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        EngineConfig(**values)


_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
)
_reply = st.one_of(
    st.text(),
    _json.map(json.dumps),
    st.lists(st.text(), max_size=5).map(lambda m: json.dumps({"moods": m})),
    st.lists(st.text(), max_size=5).map(lambda m: f"<think>hm</think>```json\n{json.dumps({'moods': m})}\n```"),
    st.lists(st.text(), max_size=3).map(lambda m: json.dumps({"moods": m})[:-2]),
    st.sampled_from(["[" * 100_000, '{"moods": ["\\ud800"]}', "\ud800", '{"moods": ["\\u0000"]}']),
)


@settings(max_examples=12, deadline=None)
@given(replies=st.lists(_reply, min_size=8, max_size=8), cut=st.booleans())
def test_no_reply_can_stop_a_run(replies: list[str], cut: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    answers = dict(zip(ITEMS, replies, strict=True))
    script = lambda r: Completion(answers[r.unit_id], 1, 1, cut and r.unit_id == "item:1")  # noqa: E731
    result, _ = run(tmp_path_factory.mktemp("fuzz"), script, max_attempts=2)
    assert result.summary.total == 8
    check_totals(result)


@pytest.mark.slow
def test_answers_from_the_ledger_cost_little_time(tmp_path: Path) -> None:
    n_units = 2_000
    for script in (lambda r: moods("dark"), []):
        began = time.process_time()
        extract(MoodMethod(n_units=n_units), toy_graph(), scripted(script, max_in_flight=64), tmp_path / "ledger")
        seconds = time.process_time() - began
    assert seconds < 0.003 * n_units, "a cached unit may cost 3 ms of one core at most"
