"""How the engine asks: retries, waits, limits, budgets, and what it keeps when asking must end."""

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import pytest

from extract.engine import EngineConfig, extract
from extract.errors import (
    BudgetError,
    LedgerError,
    PassingProviderError,
    RefusedUnitError,
    TerminalProviderError,
    UnitError,
)
from extract.ledger import Ledger
from extract.ledger_rows import NewReply, store_all
from extract.provider import Completion, Request
from extract.providers.scripted import Scripted
from tests.extract.asking import MoodMethod, check_totals, moods, run, scripted
from tests.toy import ITEMS, toy_graph

pytestmark = pytest.mark.usefixtures("_mood_prompt")


def test_passing_errors_are_retried_and_counted(tmp_path: Path) -> None:
    tries = count()

    def script(request: Request) -> str | Exception:
        return PassingProviderError("busy", 0.01) if next(tries) < 3 else moods("dark")

    result, provider = run(tmp_path, script, max_units=1)
    assert (result.summary.done, result.summary.retries, result.summary.calls) == (1, 3, 1)
    assert provider.n_calls == 4


def test_retry_after_holds_everyone_back(tmp_path: Path) -> None:
    began = time.monotonic()
    tries = count()
    times = []

    def script(request: Request) -> str | Exception:
        times.append(time.monotonic() - began)
        return PassingProviderError("busy", 0.4) if next(tries) == 0 else moods("dark")

    provider = scripted(script, max_in_flight=1)
    extract(MoodMethod(), toy_graph(), provider, tmp_path / "ledger", EngineConfig(max_in_flight=1))
    assert times[1] - times[0] >= 0.4


def test_a_poison_unit_is_set_aside_where_others_are_answered(tmp_path: Path) -> None:
    def script(request: Request) -> str | Exception:
        if request.unit_id == "item:4":
            return PassingProviderError("server error 500", 0.01)
        if request.unit_id == "item:6":
            return RefusedUnitError("the filter refuses this text")
        return UnitError("larger than the context") if request.unit_id == "item:5" else moods("dark")

    result, _ = run(tmp_path, script, max_retries=1)
    assert {k: r.examples for k, r in result.summary.set_aside_reasons.items()} == {
        "no_answer": ("item:4",),
        "filtered": ("item:6",),
        "too_large": ("item:5",),
    }
    check_totals(result)
    again, provider = run(tmp_path, lambda r: moods("dark"))
    assert provider.n_calls == 0, "what was set aside waits for `retry`"
    assert again.summary.set_aside_reasons == result.summary.set_aside_reasons
    check_totals(again)
    with Ledger(tmp_path / "ledger") as ledger:
        assert ledger.retire(ledger.runs()[0].run) == 3
    again, _ = run(tmp_path, script, max_retries=1)
    assert again.summary.set_aside_reasons == result.summary.set_aside_reasons, "a unit may fail a second time"
    with Ledger(tmp_path / "ledger") as ledger:
        assert ledger.retire(ledger.runs()[0].run) == 3
    healed, provider = run(tmp_path, lambda r: moods("dark"))
    assert (healed.summary.done, provider.n_calls) == (8, 3)


def test_a_provider_that_stops_answering_ends_the_run_and_keeps_the_answers(tmp_path: Path) -> None:
    def script(request: Request) -> str | Exception:
        return moods("dark") if request.unit_id in ITEMS[:2] else PassingProviderError("server error 503", 0.01)

    with pytest.raises(PassingProviderError, match="server error 503") as caught:
        run(tmp_path, script, max_retries=1, max_in_flight=1)
    assert "every answer so far is kept" in caught.value.__notes__[0]
    _, provider = run(tmp_path, lambda r: moods("dark"))
    assert provider.n_calls == 6


def test_a_terminal_error_is_not_retried_and_keeps_the_answers(tmp_path: Path) -> None:
    def script(request: Request) -> str | Exception:
        return TerminalProviderError("wrong key") if request.unit_id == "item:4" else moods("dark")

    with pytest.raises(TerminalProviderError, match="wrong key"):
        run(tmp_path, script, max_in_flight=1)
    _, provider = run(tmp_path, lambda r: moods("dark"))
    assert provider.n_calls == 5


def test_a_hanging_provider_times_out(tmp_path: Path) -> None:
    provider = scripted(lambda r: moods("dark"), latency_s=30.0)
    with pytest.raises(PassingProviderError, match=r"no answer for unit `item:1` within 0\.05 s; raise `timeout_s`"):
        extract(MoodMethod(), toy_graph(), provider, tmp_path / "ledger", EngineConfig(timeout_s=0.05, max_retries=0))


def test_the_budget_is_never_exceeded_and_counts_earlier_runs(tmp_path: Path) -> None:
    def script(request: Request) -> Completion:
        return Completion(moods("dark"), 10, 10)

    with pytest.raises(BudgetError, match=r"the budget of 170 tokens is spent: 80 are paid .* raise `budget_tokens`"):
        run(tmp_path, script, budget_tokens=170, max_tokens=20)
    with pytest.raises(BudgetError, match="80 are paid"):
        run(tmp_path, script, budget_tokens=170, max_tokens=20)
    result, provider = run(tmp_path, script, budget_tokens=1000, max_tokens=20)
    assert provider.n_calls == 4
    assert result.summary.paid_tokens == 160


def test_the_budget_in_money_is_never_exceeded_and_counts_earlier_runs(tmp_path: Path) -> None:
    prices = {"prompt_price": 1e5, "completion_price": 1e6, "max_tokens": 12}  # of a million: a reply costs 1 + 10
    script = [Completion(moods("dark"), 10, 10)] * 8
    spent = r"the budget of 66 is spent: 55 is paid .* next request costs up to 20\.3; .* raise `budget_cost`"
    with pytest.raises(BudgetError, match=spent):
        run(tmp_path, script, budget_cost=66, **prices)
    with pytest.raises(BudgetError, match="the budget of 72 is spent: 55 is paid"):
        run(tmp_path, script, budget_cost=72, **prices)
    result, provider = run(tmp_path, script, budget_cost=100, **prices)
    assert provider.n_calls == 3
    assert result.summary.paid_cost == pytest.approx(88)


def test_limits_hold_the_rate_down(tmp_path: Path) -> None:
    began = time.monotonic()
    run(tmp_path, lambda r: moods("dark"), requests_per_minute=1200)
    assert time.monotonic() - began >= 7 * 60 / 1200
    began = time.monotonic()
    run(tmp_path, lambda r: moods("dark"), tokens_per_minute=60_000, max_tokens=40)
    assert time.monotonic() - began >= 7 * 40 / 1000


def test_no_more_requests_are_under_way_than_allowed(tmp_path: Path) -> None:
    under_way, most = 0, 0

    class Counting(Scripted):
        async def complete(self, request: Request) -> Completion:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.005)
            under_way -= 1
            return Completion(moods("dark"), 1, 1)

    extract(
        MoodMethod(n_units=40),
        toy_graph(),
        Counting(Scripted.Config(max_in_flight=4), []),
        tmp_path / "l",
        EngineConfig(),
    )
    assert most == 4


def test_a_ledger_that_fails_ends_the_run_and_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(connection: sqlite3.Connection, replies: Sequence[NewReply]) -> None:
        if any(new.unit_id == "item:4" for new in replies):
            raise sqlite3.OperationalError("database or disk is full")
        store_all(connection, replies)

    monkeypatch.setattr("extract.ledger_rows.store_all", full)
    with pytest.raises(LedgerError, match="cannot be used: database or disk is full; what it holds is kept"):
        run(tmp_path, lambda r: moods("dark"), max_in_flight=4)
    monkeypatch.setattr("extract.ledger_rows.store_all", store_all)
    result, provider = run(tmp_path, lambda r: moods("dark"))
    assert result.summary.done == 8
    asked = {request.unit_id for request in provider.requests}
    assert "item:4" in asked
    assert not asked & {"item:1", "item:2", "item:3"}


def test_tasks_that_write_in_one_round_share_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n_commits = count()
    commit = Ledger.commit

    def counted(self: Ledger) -> None:
        next(n_commits)
        commit(self)

    monkeypatch.setattr(Ledger, "commit", counted)
    provider = scripted(lambda r: moods("dark"), latency_s=0.01, max_in_flight=64)
    result = extract(MoodMethod(n_units=512), toy_graph(), provider, tmp_path / "ledger")
    assert result.summary.done == 512
    assert next(n_commits) < 512, "each unit claims, stores and gives back: one by one, 1,024 commits"


def test_units_without_a_valid_reply_in_a_row_end_the_run_and_lose_nothing(tmp_path: Path) -> None:
    def script(request: Request) -> str:
        return moods("dark") if int(request.unit_id[5:]) < 9 else '{"mood": "dark"}'

    limits = {"max_in_flight": 2, "max_attempts": 2}
    said = r"5 units in a row got no valid reply, `unit:\d+` last \(invalid_reply\); .* extract show unit:\d+ --l"
    with pytest.raises(TerminalProviderError, match=said):
        run(tmp_path, script, MoodMethod(n_units=300), give_up_after=5, **limits)
    with Ledger(tmp_path / "ledger") as ledger:
        found = ledger.runs()[0].run
        n_paid, n_aside = ledger.paid(found)[0], ledger.counts(found)["set_aside"]
        assert 9 + 2 * 5 <= n_paid <= 9 + 2 * 5 + 4
        assert 5 <= n_aside <= 7
        assert ledger.retire(found) == n_aside, "no run has to end well before"
    result, provider = run(tmp_path, lambda r: moods("dark"), MoodMethod(n_units=30), **limits)
    assert (result.summary.done, provider.n_calls) == (30, 30 - 9)


def test_one_valid_reply_between_lets_a_run_go_on(tmp_path: Path) -> None:
    def script(request: Request) -> str:
        return moods("dark") if int(request.unit_id[5:]) % 5 == 0 else "no"

    result, _ = run(tmp_path, script, MoodMethod(n_units=60), max_in_flight=1, give_up_after=10)
    assert (result.summary.done, result.summary.set_aside) == (12, 48)


def test_a_long_wait_that_a_server_asks_for_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extract.ask._LONG_WAIT_S", 0.5)
    monkeypatch.setattr("extract.ask._PULSE_S", 0.1)
    tries, told = count(), list[str]()

    def script(request: Request) -> str | Exception:
        return PassingProviderError("http://x says 429: slow down", 0.8) if next(tries) == 0 else moods("dark")

    extract(
        *(MoodMethod(), toy_graph(), scripted(script), tmp_path / "ledger", EngineConfig(max_in_flight=1)),
        progress=lambda done, total, note="": told.append(note),
    )
    assert "waiting 1 s more, as http://x says 429: slow down; Ctrl-C loses nothing" in told[0]
    assert "waiting" not in told[-1]
