"""A budget is the ledger's: of all processes, methods and steps that pay one model."""

import asyncio
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from extract.budget import Budget
from extract.engine import EngineConfig, extract
from extract.errors import BudgetError, PassingProviderError
from extract.ledger import Ledger
from extract.ledger_rows import Entry, NewReply, StoredReply, enter_all, open_run, store
from extract.provider import Completion, Request
from extract.providers.openai_api import OpenAIAPI
from tests.extract.asking import MoodMethod, moods, run, scripted
from tests.extract.mock_api import mock_api
from tests.toy import toy_graph

_REQUEST = Request("", "", {}, max_tokens=9)  # may need 10
_HOLDS_AND_DIES = """
import os, sys
from pathlib import Path
from extract.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
ledger.write(lambda c: c.execute("INSERT INTO holds VALUES (?, 'm', 1, 9)", (ledger.runner,)))
os._exit(9)
"""


def budget(ledger: Ledger, model: str = "m", **limits: Any) -> Budget:
    async def write(entry: Entry) -> Any:
        ((result,),) = ledger.write(enter_all([entry], "run", ledger.runner))
        return result

    return Budget(EngineConfig(**limits), model, ledger.runner, write)


def reserves(spent: Budget) -> bool:
    return asyncio.run(spent.reserve(_REQUEST))


def answer(ledger: Ledger, spent: Budget | None, tokens: tuple[int, int], run: str = "run") -> None:
    reply = StoredReply(f"{run}{ledger.paid(run)}", "", False, *tokens)
    operations = [store(NewReply(reply, run, "unit", 1, "", (), 0.0))]
    ledger.write(*operations, *([release] if spent and (release := spent.release(_REQUEST)) else []))


def test_two_processes_cannot_spend_the_same_rest(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger") as one, Ledger(tmp_path / "ledger") as other:
        one.write(open_run("run", "mood", ("mood", "v1"), "m", ""))
        first, second = budget(one, budget_tokens=15), budget(other, budget_tokens=15)
        assert reserves(first)
        assert not reserves(second), "it may fit once the first is answered"
        answer(one, first, (1, 4))
        assert reserves(second), "it took 5 of the 10 that were set aside"
        answer(other, second, (1, 4))
        for spent in (first, second):
            with pytest.raises(BudgetError, match="budget of 15 tokens is spent: 10 are paid to `m` by this ledger"):
                reserves(spent)


def test_what_other_methods_and_runs_paid_the_model_counts_and_other_models_do_not(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger") as ledger:
        for run, method, model in (("a", "mood", "m"), ("b", "later_step", "m"), ("c", "mood", "other")):
            ledger.write(open_run(run, method, ("p", "v1"), model, ""))
        spent = budget(ledger, budget_cost=3.0, prompt_price=1e5, completion_price=1e5)
        answer(ledger, None, (1, 9), run="a")
        answer(ledger, None, (900, 900), run="c")
        assert reserves(spent)
        answer(ledger, spent, (1, 9), run="b")
        assert reserves(spent)
        answer(ledger, spent, (1, 0), run="b")
        with pytest.raises(BudgetError, match=r"the budget of 3 is spent: 2\.1 is paid .* costs up to 1; .*_cost"):
            reserves(spent)


def test_what_a_killed_process_had_under_way_is_free_again(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger") as ledger:
        killed = subprocess.run([sys.executable, "-c", _HOLDS_AND_DIES, str(tmp_path / "ledger")], check=False)
        assert killed.returncode == 9
        assert ledger._all("SELECT n_completion_tokens FROM holds", ()) == [(9,)]
        assert reserves(budget(ledger, budget_tokens=10))


def test_without_a_limit_nothing_is_written(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger") as ledger:
        spent = budget(ledger)
        assert reserves(spent)
        assert spent.release(_REQUEST) is None
        assert ledger._all("SELECT * FROM holds", ()) == []


@pytest.mark.usefixtures("_mood_prompt")
def test_the_budget_of_two_runs_at_once_is_never_exceeded(tmp_path: Path) -> None:
    limits = EngineConfig(budget_tokens=570, max_tokens=20)

    def ask(_: int) -> None:
        provider = scripted(lambda r: Completion(moods("dark"), 10, 10), latency_s=0.002, max_in_flight=8)
        with pytest.raises(BudgetError, match="the budget of 570 tokens is spent: 480 are paid"):
            extract(MoodMethod(n_units=60), toy_graph(), provider, tmp_path / "ledger", limits)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(ask, range(2)))
    with Ledger(tmp_path / "ledger") as ledger:
        assert ledger._all("SELECT * FROM holds", ()) == []
        (run,) = ledger.runs()
        replies, prompt, completion = ledger.paid(run.run)
    assert (replies, prompt + completion) == (24, 480), "one more might need more than 90"


@pytest.mark.usefixtures("_mood_prompt")
@pytest.mark.parametrize("tokens", [150, 300, 420, 777])
def test_the_reply_schema_that_is_sent_counts_before_it_is_paid_for(tmp_path: Path, tokens: int) -> None:
    def charge(request: Request) -> Completion:
        text = request.system + request.prompt + json.dumps(request.schema)
        return Completion(moods("dark"), len(text.encode()) // 3, request.max_tokens)

    with pytest.raises(BudgetError, match="is spent"):
        run(tmp_path, charge, MoodMethod(n_units=60), budget_tokens=tokens, max_tokens=20)
    with Ledger(tmp_path / "ledger") as ledger:
        assert sum(ledger.paid(ledger.runs()[0].run)[1:]) <= tokens


@pytest.mark.usefixtures("_mood_prompt")
@pytest.mark.parametrize(("may_be_paid", "n_calls"), [(False, 9), (True, 4)])
def test_what_was_sent_and_not_answered_stays_counted_and_what_was_refused_does_not(
    tmp_path: Path, may_be_paid: bool, n_calls: int
) -> None:
    most = 200
    tries = iter([PassingProviderError("gone", 0.001, may_be_paid=may_be_paid)])
    limits: dict[str, Any] = {"max_in_flight": 1, "max_tokens": most, "budget_tokens": (5 if may_be_paid else 9) * most}
    provider = scripted(lambda r: next(tries, Completion(moods("dark"), 0, most)))

    def ask() -> None:
        extract(MoodMethod(), toy_graph(), provider, tmp_path / "ledger", EngineConfig(**limits))

    if may_be_paid:
        for _ in ("in this run", "and ever after"):
            with pytest.raises(BudgetError, match=r"600 are paid .*, up to 2\d\d for requests that got no answer, and"):
                ask()
    else:
        ask()
    assert provider.n_calls == n_calls


@pytest.mark.usefixtures("_mood_prompt")
def test_a_connection_that_breaks_off_may_be_paid_for_and_none_that_was_made_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def hang_up(request: Any) -> Any:
        await request.read()
        request.transport.abort()
        return web.Response()

    def ask(url: str) -> PassingProviderError:
        provider = OpenAIAPI(OpenAIAPI.Config(url, "m"), "key")
        with pytest.raises(PassingProviderError) as caught:
            asyncio.run(provider.complete(_REQUEST))
        return caught.value

    with mock_api(lambda body, n: pytest.fail("never")) as api:
        monkeypatch.setattr(api, "serve", hang_up)
        assert ask(api.base_url).may_be_paid
    assert not ask("http://127.0.0.1:9/v1").may_be_paid
    assert not ask("http://localhost:9/v1").may_be_paid
