"""Asking: many units in flight, each reply stored before it is counted, retries, limits, a clean stop."""

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from shlex import quote

from extract.budget import Budget
from extract.chain import Chain, Questions, stored_reply
from extract.commits import Commits
from extract.engine_config import EngineConfig
from extract.errors import PassingProviderError, TerminalProviderError, UnitError
from extract.ledger import Ledger
from extract.ledger_rows import PENDING, SET_ASIDE, Claim, Entry, NewReply, UnitState
from extract.method import Unit
from extract.pace import Pace, n_prompt_tokens
from extract.provider import Completion, Provider, Request
from extract.senders import Senders
from extract.time_limit import TimeLimit
from kg.progress import Progress

_GRACE_S = 30.0
_GRACE_ON_INTERRUPT_S = 5.0
_FIRST_BACKOFF_S = 0.5
_LONGEST_BACKOFF_S = 60.0
_POLL_S = 0.05
_POLL_BUDGET_S = 0.2
_PULSE_S = 1.0
_TELL_EVERY = 20
_LONG_WAIT_S = 30.0
_MAX_CHARS = 100
_GIVE_UP_AFTER = 3
_MOST_AHEAD = 64


@dataclass
class Asked:
    """Counts of one run, while it goes on."""

    finished: int = 0
    cached: int = 0
    asked: int = 0
    set_aside: int = 0
    calls: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    invalid_in_a_row: int = 0
    seconds: float = 0.0
    stopping: bool = field(default=False, repr=False)

    def note(self) -> str:
        """Return a few words for the progress bar."""
        retried = f", {self.retries} retried" if self.retries else ""
        return f"{self.asked} asked, {self.cached} from the ledger, {self.set_aside} set aside{retried}"


class _StoppingError(Exception):
    """Another task ended the run; this one leaves quietly."""


class Asker:
    """Asks every open question of a run, once.

    Args:
        questions: turns units into requests.
        provider: answers them.
        ledger: keeps the replies.
        config: how many, how fast, how long.
        pace: spaces the requests.
    """

    def __init__(
        self, questions: Questions, provider: Provider, ledger: Ledger, config: EngineConfig, pace: Pace
    ) -> None:
        self._questions, self._provider, self._ledger, self._config = questions, provider, ledger, config
        self._pace = pace
        wanted = config.max_in_flight or provider.max_in_flight
        self._n_slots = max(1, min(wanted, provider.max_in_flight))
        self._senders, self._limit = Senders(self._n_slots, self._send_once), TimeLimit(config.timeout_s)
        self._commits = Commits(ledger, questions.run)
        self._budget = Budget(config, questions.model, ledger.runner, self._commits.write)
        self._ahead: asyncio.Queue[tuple[Chain, Claim | None] | None] = asyncio.Queue(_MOST_AHEAD)
        self._waits_for = ""
        self._failed_in_a_row: list[str] = []
        self.counts = Asked()

    async def run(self, units: Iterator[Unit], total: int, progress: Progress) -> None:
        """Ask until every unit has a valid reply or is set aside.

        Raises:
            TerminalProviderError: asking cannot go on, or nothing valid comes; what was answered is kept.
            PassingProviderError: the provider failed again and again; what was answered is kept.
            BudgetError: the budget is spent; what was answered is kept.
            PromptError: a unit's variables do not fit the template.
            LedgerError: a reply could not be stored.
        """
        began = time.monotonic()
        self._progress, self._total = progress, total
        n_tasks = 2 * self._n_slots + 1  # some prepare or store while all slots are taken
        feed = asyncio.create_task(self._feed(self._questions.chains(units, self._ledger)))
        workers = [asyncio.create_task(self._work()) for _ in range(min(n_tasks, max(total, 1)))]
        pulse = asyncio.create_task(self._pulse())
        grace_s = _GRACE_S
        try:
            await asyncio.wait([feed, *workers], return_when=asyncio.FIRST_EXCEPTION)
        except asyncio.CancelledError:
            grace_s = _GRACE_ON_INTERRUPT_S
            raise
        finally:
            await self._stop(workers, (feed, pulse), grace_s)
            self.counts.seconds = time.monotonic() - began
        for task in (*workers, feed, pulse):
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, _StoppingError):
                raise error

    async def _stop(
        self, workers: list[asyncio.Task[None]], others: Sequence[asyncio.Task[None]], grace_s: float
    ) -> None:
        self.counts.stopping = True
        for task in others:
            task.cancel()
        self._end_work()
        _, late = await asyncio.wait(workers, timeout=grace_s)
        for worker in late:
            worker.cancel()
        await asyncio.gather(*workers, *others, return_exceptions=True)
        await self._senders.close()
        await self._commits.close()
        await self._provider.close()

    async def _pulse(self) -> None:
        """Say once a second that this process lives, and flush what it stored; say now and then what it waits for."""
        for n in count():
            await asyncio.sleep(_PULSE_S)
            await self._commits.write(Entry(is_beat=True))
            await asyncio.to_thread(self._ledger.sync)
            if self._waits_for and n % _TELL_EVERY == 0:
                self._tell()

    async def _feed(self, chains: Iterator[Chain]) -> None:
        """Hand the units to the workers; the right to ask the open ones is taken for some in one transaction."""
        n_at_once = max(1, min(_MOST_AHEAD, self._n_slots // 4))
        while batch := list(islice(chains, n_at_once)):
            keys = [chain.first_key for chain in batch if chain.is_open]
            claims = iter(await self._commits.write(Entry(claims=keys)) if keys else ())
            for chain in batch:
                await self._ahead.put((chain, next(claims) if chain.is_open else None))
        await self._ahead.put(None)

    async def _work(self) -> None:
        while (unit := await self._ahead.get()) is not None and not self.counts.stopping:
            chain, claim = unit
            if claim is not None:
                await self._pursue(chain, claim)
            else:
                self._finish(chain, was_asked=False)
        self._end_work()

    def _end_work(self) -> None:
        """Let one who waits for a unit go; it lets the next one go."""
        if self._ahead.empty():
            self._ahead.put_nowait(None)

    async def _pursue(self, chain: Chain, claim: Claim) -> None:
        """Ask a unit's open questions, unless another process does so first."""
        while not claim.is_ours:
            await asyncio.sleep(_POLL_S)
            self._check_stopping()
            chain = self._questions.follow(chain, self._ledger)
            if not chain.is_open:
                self._finish(chain, was_asked=False)
                return
            (claim,) = await self._commits.write(Entry(claims=[chain.first_key]))
        was_asked = False
        try:
            if claim.is_answered:
                chain = self._questions.follow(chain, self._ledger)
            while chain.is_open:
                was_asked = True
                chain = await self._ask(chain)
            self._finish(chain, was_asked)
            if was_asked:
                self._watch(chain)
        except (UnitError, PassingProviderError) as error:
            await self._set_aside(chain, error)
        finally:
            if not was_asked or chain.is_open:  # else it was given back with the last reply
                await self._commits.write(Entry(release=chain.first_key))

    async def _ask(self, chain: Chain) -> Chain:
        request = self._questions.request(chain)
        began = time.monotonic()
        completion = await self._send(request)
        reply = stored_reply(chain.key, completion)
        answered, errors = self._questions.answered(chain, reply)
        run, seconds = self._questions.run, time.monotonic() - began
        new = NewReply(reply, run, chain.unit.unit_id, answered.attempts, request.prompt, errors, seconds)
        released = "" if answered.is_open else chain.first_key
        aside = None if answered.is_open or answered.reply else _aside(answered, answered.reason)
        await self._commits.write(Entry(new, aside, released, also=self._budget.release(request)))
        self._count(completion)
        return answered

    async def _send(self, request: Request) -> Completion:
        attempt = 0
        while True:
            await self._reserve(request)
            try:
                return await self._senders.ask(request)
            except UnitError:
                await self._commits.write(Entry(also=self._budget.release(request)))
                raise
            except PassingProviderError as error:
                given_back = self._budget.release(request, may_be_paid=error.may_be_paid)
                await self._commits.write(Entry(also=given_back))
                if attempt == self._config.max_retries:
                    raise
                await asyncio.sleep(_backoff_s(attempt, error.retry_after_s))
            attempt += 1
            self.counts.retries += 1

    async def _reserve(self, request: Request) -> None:
        while not await self._budget.reserve(request):
            await asyncio.sleep(_POLL_BUDGET_S)
            self._check_stopping()

    async def _send_once(self, request: Request) -> Completion:
        estimate, used = n_prompt_tokens(request) + request.max_tokens, 0
        self._check_stopping()
        try:
            await self._pace.turn(estimate)
            self._check_stopping()
            completion = await self._complete(request)
            used = completion.n_prompt_tokens + completion.n_completion_tokens
        except TerminalProviderError:
            self.counts.stopping = True  # at once: whoever waits for its turn must not send
            raise
        except PassingProviderError as error:
            if error.retry_after_s:
                self._pace.pause(error.retry_after_s)
                if error.retry_after_s > _LONG_WAIT_S:
                    self._waits_for = str(error)[:_MAX_CHARS]
                    self._tell()
            raise
        finally:
            self._pace.give_back(estimate - used)
        return completion

    async def _complete(self, request: Request) -> Completion:
        try:
            return await self._limit.keep(self._provider.complete(request))
        except TimeoutError as error:
            msg = (
                f"no answer for unit `{request.unit_id}` within {self._config.timeout_s:g} s; "
                "raise `timeout_s` or look whether the model is overloaded"
            )
            raise PassingProviderError(msg, may_be_paid=True) from error

    def _check_stopping(self) -> None:
        if self.counts.stopping:
            raise _StoppingError

    def _count(self, completion: Completion) -> None:
        self.counts.calls += 1
        self._failed_in_a_row.clear()
        self.counts.prompt_tokens += completion.n_prompt_tokens
        self.counts.completion_tokens += completion.n_completion_tokens

    def _finish(self, chain: Chain, was_asked: bool) -> None:
        self.counts.finished += 1
        self.counts.asked += was_asked
        self.counts.cached += not was_asked
        self.counts.set_aside += chain.reply is None
        self._tell()

    def _tell(self) -> None:
        note = self.counts.note()
        if self._waits_for:
            if left_s := self._pace.pause_s:
                note = f"waiting {left_s:,.0f} s more, as {self._waits_for}; Ctrl-C loses nothing; {note}"
            else:
                self._waits_for = ""
        self._progress(self.counts.finished, self._total, note)

    def _watch(self, chain: Chain) -> None:
        """End the run where too many units in a row got no valid reply."""
        counts, most = self.counts, self._config.give_up_after
        counts.invalid_in_a_row = 0 if chain.reply is not None else counts.invalid_in_a_row + 1
        if counts.invalid_in_a_row == most:
            counts.stopping = True
            unit = chain.unit.unit_id
            command = f"kglift extract show {quote(unit)} --ledger {quote(str(self._ledger.path))}"
            msg = (
                f"{most} units in a row got no valid reply, `{unit}` last ({chain.reason}); see what the model says: "
                f"`{command}`. Every reply is kept; run again to go on, with a higher "
                "`give_up_after` if so many are to be expected; `kglift extract retry` reopens those"
            )
            raise TerminalProviderError(msg)

    async def _set_aside(self, chain: Chain, error: UnitError | PassingProviderError) -> None:
        """Put a unit aside that cannot be answered, or end the run where it is the provider that cannot answer."""
        if isinstance(error, PassingProviderError):
            self._failed_in_a_row.append(chain.unit.unit_id)
            is_unknown = self.counts.calls == self.counts.cached == 0
            if is_unknown or len(self._failed_in_a_row) >= _GIVE_UP_AFTER:
                for unit_id in self._failed_in_a_row:  # it was not their fault
                    await self._commits.write(Entry(settle=UnitState(unit_id, 0, PENDING, 0, "")))
                error.add_note(
                    f"after {self._config.max_retries} retries; every answer so far is kept, run again later"
                )
                raise error
        await self._commits.write(Entry(settle=_aside(chain, f"{error.reason}: {error}")))
        self._finish(chain, was_asked=True)


def _aside(chain: Chain, reason: str) -> UnitState:
    return UnitState(chain.unit.unit_id, 0, SET_ASIDE, chain.attempts, reason, chain.first_key)


def _backoff_s(attempt: int, asked_for_s: float | None) -> float:
    """Wait as long as the server says, or twice as long each time; never in step with the others."""
    if asked_for_s is not None:
        return asked_for_s + random.uniform(0.0, _FIRST_BACKOFF_S)
    longest = min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2.0**attempt)
    return random.uniform(longest / 2, longest)
