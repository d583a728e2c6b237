"""`kglift extract`: ask, estimate, status, retry, show, as a person types them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kg.files import read_graph, write_graph
from kglift.cli import main
from kglift.errors import SettingError
from tests.extract.mock_api import answer, mock_api, refuse
from tests.extract.test_llmrg import films
from tests.toy import ITEMS, toy_graph

Call = Callable[..., tuple[int, str, str]]
_GOOD = json.dumps({"has_mood": ["dark"]})


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command, and return its exit status, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(list(arguments))
        told = capsys.readouterr()
        return int(stopped.value.code or 0), told.out, told.err

    return run


class Desk:
    """A split graph, recorded answers and a ledger in one folder."""

    def __init__(self, folder: Path, call: Call) -> None:
        self.folder, self.call = folder, call
        self.ledger = ("--ledger", str(folder / "ledger.sqlite"))
        write_graph(toy_graph(), folder / "graph")

    def _who(self) -> tuple[str, ...]:
        narrow = ("--set", 'relations=["has_mood"]')
        return (*narrow, "--provider", "replay", "--llm", f"path={self.folder / 'answers.jsonl'}", *self.ledger)

    def ask(self, out: str, replies: dict[str, str], *more: str) -> tuple[int, str, str]:
        lines = [json.dumps({"unit": unit, "text": text}) for unit, text in replies.items()]
        (self.folder / "answers.jsonl").write_text("\n".join(lines), encoding="utf-8")
        place = (str(self.folder / "graph"), "-o", str(self.folder / out))
        return self.call("extract", *place, *self._who(), "--quiet", "--json", *more)

    def json(self, command: str, *arguments: str) -> Any:
        code, out, _ = self.call("extract", command, *arguments, *self.ledger, "--json")
        assert code == 0
        return json.loads(out)

    def estimate(self, *engine: str) -> Any:
        limits = [word for one in engine for word in ("--engine", one)]
        code, out, _ = self.call("extract", "estimate", str(self.folder / "graph"), *self._who(), *limits, "--json")
        assert code == 0
        return json.loads(out)


@pytest.fixture
def desk(tmp_path: Path, call: Call) -> Desk:
    return Desk(tmp_path, call)


@pytest.fixture
def asked(desk: Desk) -> Desk:
    """All items but one were answered well; `item:3` never was."""
    code, out, err = desk.ask("facts", {item: "no" if item == "item:3" else _GOOD for item in ITEMS})
    assert code == 3, "the exit status says that a unit was set aside"
    assert "units set aside: 1;" in err
    assert json.loads(out)["set_aside"] == 1
    return desk


def test_units_set_aside_are_in_the_exit_status_and_the_facts_are_written(asked: Desk) -> None:
    assert set(read_graph(asked.folder / "facts").sources["unit"].to_pylist()) == set(ITEMS) - {"item:3"}


def test_status_counts_and_names_what_was_set_aside(asked: Desk) -> None:
    found = asked.json("status")
    (run,) = found["runs"]
    assert (run["method"], run["done"], run["set_aside"], run["pending"]) == ("item_facts", len(ITEMS) - 1, 1, 0)
    assert run["replies"] == len(ITEMS) + 2, "three attempts for the unit that was set aside"
    (aside,) = found["set_aside"]
    assert (aside["unit_id"], aside["attempts"], aside["reason"]) == ("item:3", 3, "invalid_json")
    code, out, _ = asked.call("extract", "status", *asked.ledger)
    assert code == 0
    assert "item:3" in out


def test_show_tells_all_that_was_said_about_a_unit(asked: Desk) -> None:
    (shown,) = asked.json("show", "item:3")
    assert (shown["state"], shown["attempts"]) == ("set_aside", 3)
    assert [reply["text"] for reply in shown["replies"]] == ["no"] * 3
    assert "Answer 2 was refused" in shown["replies"][2]["prompt"]
    assert shown["replies"][0]["errors"] == ["Invalid JSON: expected ident at line 1 column 2"]
    code, out, _ = asked.call("extract", "show", "item:1", *asked.ledger)
    assert code == 0
    assert '{"has_mood": ["dark"]}' in out


def test_retry_asks_only_what_was_set_aside(asked: Desk) -> None:
    run = asked.json("status")["runs"][0]["run"]
    code, _, err = asked.call("extract", "retry", "--run", run, *asked.ledger)
    assert code == 0
    assert "units open again: 1;" in err
    assert asked.json("status")["runs"][0]["pending"] == 1
    code, out, _ = asked.ask("again", {"item:3": _GOOD})
    assert code == 0
    summary = json.loads(out)
    assert (summary["asked"], summary["cached"], summary["set_aside"]) == (1, len(ITEMS) - 1, 0)
    (shown,) = asked.json("show", "item:3")
    assert [reply["is_retired"] for reply in shown["replies"]] == [True, True, True, False]


def test_retry_reopens_what_a_later_step_set_aside(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    write_graph(films("123", "124"), tmp_path / "graph")
    said = {"chains": [{"items": [1, 2], "reason": "space"}], "title": "none of them", "titles": ["Solaris"]}
    scores = iter(["no"] * 3)

    def behave(body: dict[str, Any], n: int) -> Any:
        (field,) = body["response_format"]["json_schema"]["schema"]["properties"]
        return answer(next(scores, '{"score": 70}') if field == "score" else json.dumps({field: said[field]}))

    with mock_api(behave) as api:
        for name, value in (("BASE_URL", api.base_url), ("MODEL", "m"), ("API_KEY", "key")):
            monkeypatch.setenv(f"KGLIFT_LLM_{name}", value)
        ledger = ("--ledger", str(tmp_path / "ledger.sqlite"))
        place = (str(tmp_path / "graph"), "-o", str(tmp_path / "facts"), "--overwrite", *ledger)
        ask = ("extract", *place, "--method", "llmrg", "--set", "min_interactions=2", "--quiet", "--json")
        code, out, _ = call(*ask)
        assert (code, json.loads(out)["set_aside"]) == (3, 1)
        n_before = len(api.bodies)
        code, _, err = call("extract", "retry", *ledger)
        assert (code, "units open again: 1;" in err) == (0, True)
        code, out, _ = call(*ask)
    assert (code, json.loads(out)["set_aside"]) == (0, 0)
    assert json.loads(out)["facts"]["hyperedges"]["reasoning"] == 2
    fields = [next(iter(b["response_format"]["json_schema"]["schema"]["properties"])) for b in api.bodies[n_before:]]
    assert fields == ["score", "titles", "title", "score"], "what was set aside, and what follows from its answer"


def test_the_estimate_is_of_what_is_open(desk: Desk) -> None:
    prices = ("prompt_price=1", "completion_price=2", "max_tokens=100")
    (desk.folder / "answers.jsonl").write_text("", encoding="utf-8")
    before = desk.estimate(*prices)
    assert (before["total"], before["open"]) == (len(ITEMS), len(ITEMS))
    assert before["likely_completion_tokens"] == before["most_completion_tokens"] == 100 * len(ITEMS)
    code, out, err = desk.call(
        "extract", "estimate", str(desk.folder / "graph"), *desk._who(), "--engine", "max_attempts=2"
    )
    assert (code, "up to 2 replies are paid for a question" in " ".join(err.split())) == (0, True)
    assert before["most_cost"] == pytest.approx((before["prompt_tokens"] + 200 * len(ITEMS)) / 1e6)
    code, out, _ = desk.ask("facts", dict.fromkeys(ITEMS, _GOOD), "--engine", "max_tokens=100")
    assert code == 0
    assert json.loads(out)["done"] == len(ITEMS)
    after = desk.estimate(*prices)
    assert (after["open"], after["prompt_tokens"], after["most_cost"]) == (0, 0, 0.0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("status",), "there is no ledger `{ledger}`; give its path with --ledger"),
        (("show", "item:1"), "there is no ledger"),
        (("retry",), "there is no ledger"),
    ],
)
def test_a_ledger_that_is_not_there(desk: Desk, arguments: tuple[str, ...], words: str) -> None:
    code, _, err = desk.call("extract", *arguments, *desk.ledger)
    assert code == 1
    assert words.format(ledger=desk.ledger[1]) in err
    assert not Path(desk.ledger[1]).exists()


def test_a_unit_or_run_that_is_not_there(asked: Desk) -> None:
    code, _, err = asked.call("extract", "show", "item:99", *asked.ledger)
    assert (code, "knows no unit `item:99`" in err) == (1, True)
    code, _, err = asked.call("extract", "retry", "--run", "zz", *asked.ledger)
    assert (code, "has no run `zz`" in err) == (1, True)


def test_a_batch_is_written_and_read(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGLIFT_LLM_API_KEY", "key")
    monkeypatch.setenv("KGLIFT_LLM_BASE_URL", "http://batch.example/v1")
    monkeypatch.setenv("KGLIFT_LLM_MODEL", "m")
    asked, said = desk.folder / "ask.jsonl", desk.folder / "results.jsonl"
    code, _, err = desk.call("extract", "batch-write", str(desk.folder / "graph"), "--file", str(asked), *desk.ledger)
    assert (code, f"{len(ITEMS)} requests in" in err) == (0, True)
    key = json.loads(asked.read_text(encoding="utf-8").splitlines()[0])["custom_id"]
    said.write_text(json.dumps({"custom_id": key, "response": {"status_code": 500}}), encoding="utf-8")
    found = desk.json("batch-read", str(desk.folder / "graph"), "--file", str(said))
    following = {"step": "item_facts", "number": 1, "open": len(ITEMS), "left_out": 0, "why": ""}
    assert found == {"stored": 0, "known": 0, "set_aside": 0, "failed": {"status 500": 1}, "next": following}
    code, out, err = desk.call("extract", "batch-read", str(desk.folder / "graph"), "--file", str(said), *desk.ledger)
    assert (code, "failed: status 500" in out) == (0, True)
    assert f"step 1, item_facts: {len(ITEMS)} questions are open; `kglift extract batch-write` writes them" in err


def test_a_provider_that_only_python_can_give_answers_is_refused() -> None:
    from kglift.plan import LlmPlan
    from kglift.settings import open_provider

    with pytest.raises(SettingError, match="the provider `scripted` gets its answers in Python.*take `replay`"):
        open_provider(LlmPlan("scripted"))


def test_a_batch_that_a_budget_cuts_short_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("BASE_URL", "http://batch.example/v1"), ("MODEL", "m"), ("API_KEY", "key")):
        monkeypatch.setenv(f"KGLIFT_LLM_{name}", value)
    place = (str(desk.folder / "graph"), "--file", str(desk.folder / "ask.jsonl"), "--engine", "max_tokens=100")
    limited = (*place, "--engine", "budget_tokens=1000")
    code, _, err = desk.call("extract", "batch-write", *limited, *desk.ledger)
    n_written = len((desk.folder / "ask.jsonl").read_text(encoding="utf-8").splitlines())
    assert 0 < n_written < len(ITEMS)
    assert (code, f"step 1, item_facts: {n_written} requests in" in err) == (0, True)
    assert f"left out: {len(ITEMS) - n_written} requests; the budget of 1000 tokens is spent" in " ".join(err.split())
    found = desk.json("batch-write", *limited)
    assert (found["open"], found["left_out"]) == (len(ITEMS), len(ITEMS) - n_written)
    assert "the budget of 1000 tokens" in found["why"]
    code, _, err = desk.call("extract", "batch-write", *place, "--engine", "budget_tokens=10", *desk.ledger)
    assert (code, "hand it in" in err, f"item_facts: left out: {len(ITEMS)} requests" in err) == (0, False, True)


def test_answers_of_a_run_that_goes_on_are_no_open_questions(desk: Desk) -> None:
    code, _, err = desk.ask("facts", dict.fromkeys(ITEMS[:5], _GOOD), "--engine", "max_in_flight=1")
    assert (code, "has no answer for unit" in err) == (1, True)
    (run,) = desk.json("status")["runs"]
    assert (run["pending"], run["done"]) == (len(ITEMS), 0)
    assert run["answered"] == run["replies"] > 0
    code, out, _ = desk.call("extract", "status", *desk.ledger)
    assert (code, f"{len(ITEMS)}       {run['answered']}" in out) == (0, True)
    for unit, is_answered in ((ITEMS[0], True), (ITEMS[6], False)):
        (shown,) = desk.json("show", unit)
        assert (shown["state"], shown["is_answered"]) == ("pending", is_answered)
        code, out, err = desk.call("extract", "show", unit, *desk.ledger)
        assert (code, "a valid reply is there; its facts are made when the run ends" in err) == (0, is_answered)


def test_what_got_no_answer_waits_for_retry(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    write_graph(toy_graph(), tmp_path / "graph")

    def behave(body: dict[str, Any], n: int) -> Any:
        asked = body["messages"][1]["content"]
        if "Film item:2." in asked:
            return refuse(400, "This model's maximum context length is 8 tokens")
        return refuse(500, "oops") if "Film item:3." in asked else answer(_GOOD)

    with mock_api(behave) as api:
        for name, value in (("BASE_URL", api.base_url), ("MODEL", "m"), ("API_KEY", "key")):
            monkeypatch.setenv(f"KGLIFT_LLM_{name}", value)
        ask = ("extract", str(tmp_path / "graph"), "-o", str(tmp_path / "facts"), "--overwrite", "--quiet")
        ledger = ("--ledger", str(tmp_path / "ledger.sqlite"))
        for n_calls in (len(ITEMS), 0):
            n_before = len(api.bodies)
            code, _, err = call(*ask, *ledger, "--engine", "max_retries=0", "--set", 'relations=["has_mood"]')
            assert (code, len(api.bodies) - n_before) == (3, n_calls)
            assert "units set aside: 2; `kglift extract status` names them, `retry` reopens them" in err


def test_only_one_provider_has_a_batch_endpoint(tmp_path: Path) -> None:
    from kglift.asking import batch
    from kglift.plan import Asking, EngineConfig, ExtractPlan, LlmPlan

    (tmp_path / "answers.jsonl").write_text("", encoding="utf-8")
    replay = LlmPlan("replay", {"path": str(tmp_path / "answers.jsonl")})
    with pytest.raises(SettingError, match="the provider `replay` has no batch endpoint; take `openai_api`"):
        batch(Asking(tmp_path, ExtractPlan("item_facts"), replay, EngineConfig(), tmp_path / "ledger"), print)


@pytest.mark.slow
def test_on_ray_the_command_makes_the_same_facts(desk: Desk) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install kglift[ray]")
    replies = dict.fromkeys(ITEMS, _GOOD)
    assert desk.ask("alone", replies)[0] == 0
    (desk.folder / "ledger.sqlite").unlink()
    code, out, err = desk.ask("facts", replies, "--engine", "ray", "--engine", "max_attempts=2")
    assert code == 0, err
    assert json.loads(out)["asked"] == len(ITEMS)
    alone, facts = read_graph(desk.folder / "alone"), read_graph(desk.folder / "facts")
    assert facts.equals(alone)
