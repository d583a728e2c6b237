"""What an extraction may cost, said before anything is sent."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from extract.engine import EngineConfig, StepRun
from extract.ledger import Ledger
from extract.method import Method
from extract.pace import n_prompt_tokens
from extract.provider import Provider
from extract.steps import reached_steps
from kg.graph import Graph

DONE, OPEN, AHEAD = "done", "open", "ahead"


@dataclass(frozen=True)
class Counts:
    """What is open, and what it may cost if every first reply is valid; else up to `max_attempts` replies are paid for.

    Attributes:
        total: units.
        open: units whose next question has no reply in the ledger.
        prompt_tokens: of the open questions, by their length.
        likely_completion_tokens: as many a reply as the earlier ones of this step and model; without any, the bound.
        most_completion_tokens: `max_tokens` a reply.
        likely_cost: at the configured prices.
        most_cost: at the configured prices, with the bound.
    """

    total: int = 0
    open: int = 0
    prompt_tokens: int = 0
    likely_completion_tokens: int = 0
    most_completion_tokens: int = 0
    likely_cost: float = 0.0
    most_cost: float = 0.0

    @classmethod
    def sum(cls, counts: Iterable["Counts"]) -> "Counts":
        """Add counts up."""
        given = list(counts)
        return cls(**{field.name: sum(getattr(one, field.name) for one in given) for field in fields(cls)})


@dataclass(frozen=True)
class StepEstimate:
    """Where the steps of one name stand.

    Attributes:
        step: the name.
        state: `done`: its facts are known; `open`: it comes now; `ahead`: its questions depend on answers to come.
        counts: what is open; ahead it is the most that the settings allow, with prompts as long as earlier ones of the
            step and model, or as those of the step that comes now.
    """

    step: str
    state: str
    counts: Counts


@dataclass(frozen=True)
class Estimate:
    """What is open in all steps of a method, and what it may cost.

    Attributes:
        steps: in order; steps of one name and state that follow each other, or are ahead, are one.
    """

    steps: tuple[StepEstimate, ...]

    @property
    def counts(self) -> Counts:
        """The sum over all steps."""
        return Counts.sum(one.counts for one in self.steps)

    @property
    def is_bound(self) -> bool:
        """Whether steps are ahead, so that the sum is no count but the most that can be."""
        return any(one.state == AHEAD for one in self.steps)

    def to_dict(self) -> dict[str, Any]:
        """Return the estimate as plain JSON values."""
        steps = [{"step": one.step, "state": one.state, **asdict(one.counts)} for one in self.steps]
        return asdict(self.counts) | {"is_bound": self.is_bound, "steps": steps}


def estimate(
    method: Method, graph: Graph, provider: Provider, ledger_path: Path, config: EngineConfig | None = None
) -> Estimate:
    """Count what is open, step by step, and price it; nothing is sent.

    Args:
        method: asks the questions.
        graph: the data set, split.
        provider: would answer; only its identity counts.
        ledger_path: what it holds is not asked again.
        config: how the questions would be asked; its prices count.

    Raises:
        PromptError: if a unit's variables do not fit the prompt.
        LedgerError: if the ledger cannot be used.
    """
    config = config or EngineConfig()
    with Ledger(ledger_path) as ledger:
        priced = _Priced(ledger, provider.model, config)
        found: list[StepEstimate] = []
        for run in reached_steps(method, graph, provider.model, ledger, config):
            counts = priced.counted(run)
            found.append(StepEstimate(run.method.name, OPEN if counts.open else DONE, counts))
            if counts.open:
                ahead = method.later_steps(graph)[len(found) - 1 :]
                return Estimate((*_joined(found), *priced.ahead(ahead, counts)))
    return Estimate(tuple(_joined(found)))


class _Priced(NamedTuple):
    ledger: Ledger
    model: str
    config: EngineConfig

    def counted(self, run: StepRun) -> Counts:
        """Count the questions of a step that can be asked now."""
        total = n_open = n_prompt = 0
        for chain in run.chains():
            total += 1
            if chain.is_open:
                n_open += 1
                n_prompt += n_prompt_tokens(run.questions.request(chain))
        return self._counts(run.method.name, total, n_open, n_prompt)

    def ahead(self, steps: Sequence[tuple[str, int]], now: Counts) -> Iterator[StepEstimate]:
        """Bound what cannot be counted yet."""
        most: dict[str, int] = {}
        for name, n_units in steps:
            limit = n_units if self.config.max_units is None else min(n_units, self.config.max_units)
            most[name] = most.get(name, 0) + limit
        for name, n_units in most.items():
            replies, n_prompt, _ = self.ledger.paid_for(name, self.model)
            each = n_prompt / replies if replies else now.prompt_tokens / now.open
            yield StepEstimate(name, AHEAD, self._counts(name, n_units, n_units, round(n_units * each)))

    def _counts(self, step: str, total: int, n_open: int, n_prompt: int) -> Counts:
        replies, _, paid = self.ledger.paid_for(step, self.model)
        most = n_open * self.config.max_tokens
        likely = min(most, round(n_open * paid / replies)) if replies else most
        cost = self.config.cost
        return Counts(total, n_open, n_prompt, likely, most, cost(n_prompt, likely), cost(n_prompt, most))


def _joined(steps: Iterable[StepEstimate]) -> Iterator[StepEstimate]:
    for (step, state), some in groupby(steps, key=lambda one: (one.step, one.state)):
        yield StepEstimate(step, state, Counts.sum(one.counts for one in some))
