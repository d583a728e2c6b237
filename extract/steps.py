"""Methods of several steps: each step asks about what the steps before it found."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from extract.ask import Asked
from extract.engine import EngineConfig, Extraction, StepRun, extract
from extract.ledger import Ledger
from extract.method import Method
from extract.provider import Provider
from extract.summary import Reason, Summary, Tally
from kg.graph import Graph, concat
from kg.progress import Progress, silent

_N_EXAMPLES = 3
_PAID = ("paid_replies", "estimated_replies", "paid_tokens", "paid_cost")
_COUNTED_BY = {"entities": "type", "triples": "relation", "hyperedges": "relation", "members": "role", "texts": "kind"}


def extract_steps(
    method: Method,
    graph: Graph,
    provider: Provider,
    ledger_path: Path,
    config: EngineConfig | None = None,
    progress: Progress = silent,
) -> Extraction:
    """Run a method and every step that follows from what was found; a method of one step is simply extracted.

    Each step is an extraction of its own with the same ledger, so an interrupted run goes on within its step, and
    limits of `config` hold for each step, except for budgets, which are the ledger's.

    Args:
        method: the first step.
        graph: the data set, split; perhaps with what earlier runs found.
        provider: answers all steps.
        ledger_path: where replies are kept.
        config: how to ask.
        progress: told after every unit, anew in each step.

    Returns:
        The graph that the method concludes with, and a summary over all steps.

    Raises:
        ExtractError: as `extract.engine.extract`.
        LeakError: as `extract.engine.extract`.
    """
    config = config or EngineConfig()
    steps, summaries = _Steps(method, graph), list[Summary]()
    while steps.step is not None:
        result = extract(steps.step, steps.known, provider, ledger_path, config, progress)
        summaries.append(result.summary)
        steps.go_on(result.graph)
    concluded, dropped = method.conclude(steps.found, steps.known)
    tally = Tally()
    tally.add(dropped)
    return Extraction(concluded, _joined(method, summaries, tally.reasons(), concluded))


def reached_steps(method: Method, graph: Graph, model: str, ledger: Ledger, config: EngineConfig) -> Iterator[StepRun]:
    """Yield the steps in order, each made of what the ledger says about those before it; nothing is asked.

    To take the next step is to close this one: a unit without a valid reply counts as set aside.

    Args:
        method: the first step.
        graph: the data set, split.
        model: identity of the model whose replies count.
        ledger: holds them.
        config: how to ask.
    """
    steps = _Steps(method, graph)
    while steps.step is not None:
        run = StepRun.of(steps.step, steps.known, model, ledger, config)
        yield run
        steps.go_on(run.collect(Asked()).graph)


class _Steps:
    """Leads from step to step.

    Attributes:
        step: the step that comes now; None after the last.
        known: the data set and what the steps before it found.
        found: what they found alone.
    """

    def __init__(self, method: Method, graph: Graph) -> None:
        self.step: Method | None = method
        self.known, self.found, self._graph = graph, Graph.from_tables(), graph

    def go_on(self, found: Graph) -> None:
        """Take what this step found, and let it decide what comes next."""
        assert self.step is not None
        self.found = concat(self.found, found)
        self.known = concat(self._graph, self.found)
        encode, self.step = self.step.encode, self.step.then(self.known)
        if self.step is not None:
            self.step.encode = encode


def _joined(method: Method, steps: Sequence[Summary], dropped: Mapping[str, Reason], graph: Graph) -> Summary:
    """Sum the counts of all steps; facts are those of the final graph."""
    values: dict[str, Any] = {}
    for field in fields(Summary):
        given = [getattr(step, field.name) for step in steps]
        values[field.name] = sum(given) if isinstance(given[0], (int, float)) else given[0]
    seconds = values["seconds"]
    last = {step.method: step for step in steps}.values()  # what was paid is counted over all runs of a name
    values |= {name: sum(getattr(step, name) for step in last) for name in _PAID}
    values |= {
        "method": method.name,
        "runs": tuple(dict.fromkeys(run for step in steps for run in step.runs)),
        "set_aside_reasons": _merged([s.set_aside_reasons for s in steps]),
        "rejects": _merged([*(s.rejects for s in steps), dropped]),
        "tokens_per_s": values["completion_tokens"] / seconds if seconds else 0.0,
        "facts": _facts(graph) if len(steps) > 1 else steps[0].facts,
    }
    return Summary(**values)


def _merged(given: Sequence[Mapping[str, Reason]]) -> dict[str, Reason]:
    merged: dict[str, Reason] = {}
    for reasons in given:
        for code, reason in reasons.items():
            old = merged.get(code, Reason(0, ()))
            examples = (*old.examples, *reason.examples)[:_N_EXAMPLES]
            merged[code] = Reason(old.count + reason.count, examples)
    return dict(sorted(merged.items(), key=lambda pair: (-pair[1].count, pair[0])))


def _facts(graph: Graph) -> dict[str, dict[str, int]]:
    tables = {name: Counter(getattr(graph, name)[column].to_pylist()) for name, column in _COUNTED_BY.items()}
    return {name: dict(sorted(counts.items())) for name, counts in tables.items() if counts}
