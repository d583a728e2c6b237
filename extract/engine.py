"""The engine: a method's questions in, a graph fragment and a summary out; every answer is paid for once.

Three passes over the units, none of which holds more of them than their ids. Before anything is sent, each unit is
checked: its id is new and it shows train interactions only. Then the open questions are asked and every reply goes to
the ledger. Then the facts are made from the ledger, in the order of the units: they do not depend on which reply came
first, nor on how often the run was interrupted.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any, Self

from extract.ask import Asked, Asker
from extract.chain import Chain, Questions
from extract.engine_config import EngineConfig
from extract.errors import UnitError
from extract.fragment import Fragment
from extract.leak import TrainPairs
from extract.ledger import Ledger
from extract.ledger_rows import (
    DONE,
    EMPTY,
    REJECTED,
    SET_ASIDE,
    UnitState,
    enter_units,
    meet_units,
    open_run,
    settle_units,
)
from extract.loop import run_in_loop
from extract.method import Method, Rejected, Unit
from extract.pace import Pace
from extract.provider import Provider
from extract.summary import Summary, Tally
from extract.template import load_prompt
from kg.graph import Graph
from kg.progress import Progress, silent
from kg.terms import TRAIN

__all__ = ["EngineConfig", "Extraction", "StepRun", "extract"]

_BATCH = 1_000
_DEFAULT = EngineConfig()


@dataclass(frozen=True)
class Extraction:
    """What an extraction made.

    Attributes:
        graph: the facts, their sources and the entities they refer to; `kg.graph.concat` and fusion take it.
        summary: what was asked, answered, kept and rejected.
    """

    graph: Graph
    summary: Summary


def extract(
    method: Method,
    graph: Graph,
    provider: Provider,
    ledger_path: Path,
    config: EngineConfig = _DEFAULT,
    progress: Progress = silent,
) -> Extraction:
    """Ask a method's questions about a data set and make a graph fragment of the answers.

    Run again after an interruption, it asks only what has no reply in the ledger yet. Works inside a notebook too.

    Args:
        method: asks the questions and turns replies into facts.
        graph: the data set, split.
        provider: answers; closed at the end.
        ledger_path: where replies are kept; one file serves many methods, models and processes at once.
        config: how to ask.
        progress: told after every unit.

    Raises:
        LeakError: if a unit shows an interaction that is not in `train`; nothing was sent.
        UnitError: if two units have the same id; nothing was sent.
        PromptError: if a unit's variables do not fit the prompt.
        ProviderError: if asking cannot go on; what was answered is kept.
        BudgetError: if the budget is spent; what was answered is kept.
        LedgerError: if the ledger cannot be used.
    """
    with Ledger(ledger_path) as ledger:
        run = StepRun.of(method, graph, provider.model, ledger, config)
        total = run.check()
        asked = _in_loop(run.ask(provider, total, progress))
        return run.collect(asked)


@dataclass(frozen=True)
class StepRun:
    """One step of a method, its data and its ledger.

    Attributes:
        method: the step.
        graph: what it may see: the train interactions only.
        questions: turns its units into requests.
        ledger: keeps the replies.
        config: how to ask.
    """

    method: Method
    graph: Graph
    questions: Questions
    ledger: Ledger
    config: EngineConfig

    @classmethod
    def of(cls, method: Method, graph: Graph, model: str, ledger: Ledger, config: EngineConfig) -> Self:
        """Prepare a step; a method cannot show what it never gets."""
        questions = Questions(method, load_prompt(method.prompt), model, config)
        return cls(method, graph.replace(interactions=graph.interactions_of(TRAIN)), questions, ledger, config)

    def units(self) -> Iterator[Unit]:
        """Yield the units, as many as `max_units` allows."""
        return islice(self.method.units(self.graph), self.config.max_units)

    def chains(self) -> Iterator[Chain]:
        """Yield each unit's chain, followed as far as the ledger goes.

        Raises:
            PromptError: if a unit's variables do not fit the template.
        """
        return self.questions.chains(self.units(), self.ledger)

    def check(self) -> int:
        """Check all units before anything is sent, enter them in the ledger and return their number."""
        q, pairs, total = self.questions, TrainPairs(self.graph), 0
        prompt = (q.prompt.name, q.prompt.version)
        self.ledger.write(open_run(q.run, self.method.name, prompt, q.model, q.request_parameters))
        units = self.units()
        while batch := list(islice(units, _BATCH)):
            for unit in batch:
                pairs.check(unit)
            ids = [unit.unit_id for unit in batch]
            twice, _ = self.ledger.write(meet_units(ids, total == 0), enter_units(q.run, zip(ids, count(total))))
            if twice is not None:
                msg = f"method `{self.method.name}` asks about `{twice}` twice; give each unit its own id"
                raise UnitError(msg)
            total += len(batch)
        return total

    async def ask(self, provider: Provider, total: int, progress: Progress) -> Asked:
        """Ask what is open."""
        pace = Pace(self.config.requests_per_minute, self.config.tokens_per_minute)
        asker = Asker(self.questions, provider, self.ledger, self.config, pace)
        await asker.run(self.units(), total, progress)
        return asker.counts

    def collect(self, asked: Asked) -> Extraction:
        """Make the facts from the ledger, in the order of the units; without a valid reply a unit is set aside."""
        fragment = Fragment(self.graph, self.method, self.questions.prompt, self.questions.model)
        outcome = _Outcome()
        batch: list[UnitState] = []
        for place, chain in enumerate(self.chains()):
            batch.append(self._settle(fragment, outcome, chain, place))
            if len(batch) == _BATCH:
                self.ledger.write(settle_units(self.questions.run, batch))
                batch = []
        self.ledger.write(settle_units(self.questions.run, batch))
        return Extraction(fragment.graph(), self._summary(fragment, outcome, asked))

    def _settle(self, fragment: Fragment, outcome: "_Outcome", chain: Chain, place: int) -> UnitState:
        unit = chain.unit
        if chain.parsed is None:
            stored = self.ledger.unit(self.questions.run, unit.unit_id)
            reason = stored.reason if stored is not None and chain.is_open else chain.reason
            outcome.set_aside.add([Rejected(reason.partition(":")[0], unit.unit_id)])
            outcome.counts[SET_ASIDE] += 1
            return UnitState(unit.unit_id, place, SET_ASIDE, chain.attempts, reason, chain.first_key)
        try:
            facts = self.method.facts(chain.parsed, unit, self.graph)
        except Exception as error:
            error.add_note(f"method `{self.method.name}` failed on unit `{unit.unit_id}`; its reply is in the ledger")
            raise
        outcome.repaired += chain.is_repaired
        n_facts, n_rejected = fragment.add(chain, facts)
        state = DONE if n_facts else REJECTED if n_rejected else EMPTY
        outcome.counts[state] += 1
        reason = "" if n_facts else f"{n_rejected} parts rejected"
        return UnitState(unit.unit_id, place, state, chain.attempts, reason, chain.first_key)

    def _summary(self, fragment: Fragment, outcome: "_Outcome", asked: Asked) -> Summary:
        replies, prompt_tokens, completion_tokens = self.ledger.paid(self.questions.run)
        prompt = self.questions.prompt
        return Summary(
            method=self.method.name,
            model=self.questions.model,
            runs=(self.questions.run,),
            prompt=prompt.name,
            prompt_version=prompt.version,
            total=sum(outcome.counts.values()),
            **outcome.counts,
            cached=asked.cached,
            asked=asked.asked,
            calls=asked.calls,
            repaired=outcome.repaired,
            retries=asked.retries,
            set_aside_reasons=outcome.set_aside.reasons(),
            rejects=fragment.rejects.reasons(),
            grounded=fragment.grounded,
            duplicates=fragment.duplicates,
            prompt_tokens=asked.prompt_tokens,
            completion_tokens=asked.completion_tokens,
            cost=self.config.cost(asked.prompt_tokens, asked.completion_tokens),
            paid_replies=replies,
            estimated_replies=self.ledger.n_estimated(self.questions.run),
            paid_tokens=prompt_tokens + completion_tokens,
            paid_cost=self.config.cost(prompt_tokens, completion_tokens),
            seconds=asked.seconds,
            tokens_per_s=asked.completion_tokens / asked.seconds if asked.seconds else 0.0,
            facts={table: dict(sorted(counts.items())) for table, counts in fragment.facts.items() if counts},
        )


@dataclass
class _Outcome:
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys((DONE, EMPTY, REJECTED, SET_ASIDE), 0))
    set_aside: Tally = field(default_factory=Tally)
    repaired: int = 0


def _in_loop(work: Coroutine[Any, Any, Asked]) -> Asked:
    """Run a coroutine to its end, in a thread of its own where a loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run_in_loop(work)
    with ThreadPoolExecutor(1, "extract") as pool:
        return pool.submit(run_in_loop, work).result()
