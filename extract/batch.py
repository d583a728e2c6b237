"""Batch endpoints: the open questions as the provider's batch file, and its results into the ledger.

Where a provider answers a file of requests within a day at a lower price: write the file, hand it in, fetch the
results, read them back, and write again, until nothing is left: what was refused is asked again with its errors, and
once a step of a method has no open question, the file is that of the next step. Whatever is open at last can be asked
directly, since both ways share the ledger.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO

from extract.budget import NOTHING, Limit, most_of
from extract.chain import Chain, stored_reply
from extract.chat_api import Answer, completion_of, concession, refusal
from extract.engine import EngineConfig, StepRun
from extract.errors import PassingProviderError, UnitError
from extract.ledger import Ledger
from extract.ledger_rows import (
    SET_ASIDE,
    NewReply,
    Operation,
    UnitState,
    meet_units,
    settle_units,
    store,
)
from extract.method import Method
from extract.provider import Completion, Request
from extract.providers.openai_api import OpenAIAPI
from extract.steps import reached_steps
from kg.errors import FileFormatError, WriteError
from kg.files import whole_file
from kg.graph import Graph

_PATH = "/v1/chat/completions"
_AT_ONCE = 1_000
_MAX_CHARS = 120
_NO_KEY = "\0"  # a file of results holds no key to be hidden


@dataclass(frozen=True)
class BatchStep:
    """The step that comes now.

    Attributes:
        step: its name; empty where no step has an open question.
        number: its place among the method's steps, from 1; that of the last one where none is open.
        open: its open questions; of those that ask the same, one.
        left_out: those of them that a file does not hold, since the budget does not surely pay for them.
        why: which budget that is, and what has been spent of it.
    """

    step: str
    number: int
    open: int
    left_out: int = 0
    why: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the step as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class BatchRead:
    """What a file of results held.

    Attributes:
        stored: replies, valid or not, that are in the ledger now.
        known: results that no open question waits for; read before, or of other questions.
        set_aside: units that the provider cannot take; `kglift extract retry` opens them again.
        failed: requests that the provider did not answer, by what it said; they stay open.
        next: the step that comes now.
    """

    stored: int
    known: int
    set_aside: int
    failed: dict[str, int]
    next: BatchStep

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as plain JSON values."""
        return asdict(self)


class Batch:
    """One extraction by way of a batch endpoint that speaks the OpenAI API; the arguments are those of `extract_steps`.

    The `custom_id` of a request is the address of its question in the ledger: a result finds its question even after
    the data has changed, and a result that is read twice is stored once. Memory: 150 bytes a result while reading.
    """

    def __init__(
        self, method: Method, graph: Graph, provider: OpenAIAPI, ledger_path: Path, config: EngineConfig | None = None
    ) -> None:
        self._method, self._graph, self._provider, self._ledger_path = method, graph, provider, ledger_path
        self._config = config or EngineConfig()

    def write(self, path: Path) -> BatchStep:
        """Write the open questions of the first step that has any; an existing file is replaced only when all are.

        With a budget the file holds as many requests as its rest surely pays for. A file that was handed in and not
        read back is unknown to the ledger, and so to the budget.

        Returns:
            The step, its open questions and how many of them the file does not hold; none where no step has any.

        Raises:
            LeakError: if a unit shows an interaction that is not in `train`; nothing was written.
            PromptError: if a unit's variables do not fit the prompt.
            WriteError: if the folder of the file does not exist, or the disk is full or read-only.
        """
        if not path.parent.is_dir():
            msg = f"cannot write `{path}`: there is no folder `{path.parent}`; make it, or choose another place"
            raise WriteError(msg)
        with Ledger(self._ledger_path) as ledger, whole_file(path, overwrite=True, text=True) as out:
            step = BatchStep("", 0, 0)
            for number, run in enumerate(self._reached(ledger), start=1):
                run.check()
                n_open, n_left, why = self._write_step(run, out)
                step = BatchStep(run.method.name if n_open else "", number, n_open, n_left, why)
                if n_open:
                    break
        return step

    def read(self, path: Path) -> BatchRead:
        """Put the results of a batch into the ledger.

        Raises:
            FileFormatError: if there is no such file, or a line is no result; nothing was stored.
        """
        if not path.is_file():
            msg = f"there is no file of results `{path}`; fetch it from the provider, and give its path"
            raise FileFormatError(msg)
        with path.open("rb") as results, Ledger(self._ledger_path) as ledger:
            reading, step = _Reading(results, path, self._provider), BatchStep("", 0, 0)
            for number, run in enumerate(self._reached(ledger), start=1):
                run.check()
                n_open = reading.take_step(run)
                step = BatchStep(run.method.name if n_open else "", number, n_open)
                if n_open:
                    break
        return reading.counts(step)

    def _reached(self, ledger: Ledger) -> Iterator[StepRun]:
        return reached_steps(self._method, self._graph, self._provider.model, ledger, self._config)

    def _write_step(self, run: StepRun, out: IO[str]) -> tuple[int, int, str]:
        """Write the requests of a step; return its open questions, how many were left out, and why."""
        limit, written = Limit(self._config, run.questions.model), NOTHING
        n_open = n_left = 0
        why = ""
        for chain in _open_chains(run):
            (twice,) = run.ledger.write(meet_units([chain.key], n_open == 0))
            if twice is not None:
                continue
            n_open += 1
            request = run.questions.request(chain)
            most = most_of(request)
            if limit.is_set and not why:
                (why, _), *_ = run.ledger.write(partial(limit.shortage, most=most, written=written))
            if why:
                n_left += 1
                continue
            written = written.plus(most)
            line = {"custom_id": chain.key, "method": "POST", "url": _PATH, "body": self._provider.body(request)}
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
        return n_open, n_left, why


class _Reading:
    """Takes the results that open questions wait for, and counts what becomes of them."""

    def __init__(self, results: BinaryIO, path: Path, provider: OpenAIAPI) -> None:
        self._results, self._places, self._provider = results, _index(results, path), provider
        self._taken: set[str] = set()
        self._stored = self._set_aside = 0
        self._failed = Counter[str]()

    def take_step(self, run: StepRun) -> int:
        """Put the results that a step waits for into the ledger; return how many of its questions stay open."""
        operations: list[Operation[None]] = []
        still_open = set[str]()
        for chain in _open_chains(run):
            after, operation = self._take(run, chain)
            if after.is_open:
                still_open.add(after.key)
            if operation is not None:
                operations.append(operation)
            if len(operations) == _AT_ONCE:
                run.ledger.write(*operations)
                operations.clear()
        run.ledger.write(*operations)
        return len(still_open)

    def counts(self, step: BatchStep) -> BatchRead:
        """Return what became of all results."""
        known = len(self._places) - len(self._taken)
        return BatchRead(self._stored, known, self._set_aside, dict(self._failed.most_common()), step)

    def _take(self, run: StepRun, chain: Chain) -> tuple[Chain, Operation[None] | None]:
        """Return where a chain stands after its result, and what is to be written; of equal questions one counts."""
        place = self._places.get(chain.key)
        if place is None:
            return chain, None
        is_first = chain.key not in self._taken
        self._taken.add(chain.key)
        self._results.seek(place)
        result = json.loads(self._results.readline())
        got = _completion(result, run.questions.request(chain))
        if isinstance(got, Completion):
            reply = stored_reply(chain.key, got)
            after, errors = run.questions.answered(chain, reply)
            self._stored += is_first
            new = NewReply(reply, run.questions.run, chain.unit.unit_id, after.attempts, chain.prompt, errors, 0.0)
            return after, store(new)
        answer = _answer(result)
        if (why := self._never_taken(answer)) is None:
            self._failed[got + self._way_out(answer)] += is_first
            return chain, None
        self._set_aside += is_first
        state = UnitState(chain.unit.unit_id, 0, SET_ASIDE, chain.attempts, why, chain.first_key)
        return chain._replace(is_open=False), settle_units(run.questions.run, [state])

    def _never_taken(self, answer: Answer) -> str | None:
        """Return why the model can never answer a request that was refused; None where it may."""
        error = refusal(answer, "the batch", self._provider.model, _NO_KEY)
        return f"{error.reason}: {error}" if isinstance(error, UnitError) else None

    def _way_out(self, answer: Answer) -> str:
        """Return what to set where the form of the request was refused: a batch cannot be sent in another at once."""
        name = concession(answer, self._provider.conceded)
        if name is None:
            return ""
        return f"; write the batch again with --llm 'concede={json.dumps([*sorted(self._provider.conceded), name])}'"


def _answer(result: dict[str, Any]) -> Answer:
    response = result.get("response") or {}
    return Answer(response.get("status_code") or 0, {}, json.dumps(response.get("body")).encode())


def _completion(result: dict[str, Any], request: Request) -> Completion | str:
    """Return the answer in a result, or why there is none."""
    response = result.get("response") or {}
    try:
        if result.get("error") or response.get("status_code") != 200:
            return _why(result)
        return completion_of(response["body"], "the batch", request)
    except (PassingProviderError, LookupError, TypeError, AttributeError) as error:
        return str(error)[:_MAX_CHARS]


def _open_chains(run: StepRun) -> Iterator[Chain]:
    return (chain for chain in run.chains() if chain.is_open)


def _index(results: BinaryIO, path: Path) -> dict[str, int]:
    """Return where the result of each question begins; the last one counts."""
    places: dict[str, int] = {}
    place = 0
    for number, line in enumerate(results, start=1):
        if line.strip():
            try:
                result = json.loads(line)
                places[str(result["custom_id"])] = place
                result.get("response", {})
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                msg = (
                    f"`{path}`, line {number}, is `{line[:60].decode(errors='replace').strip()}`; expected a result "
                    "of a batch: a JSON object with `custom_id` and `response`; fetch the file again"
                )
                raise FileFormatError(msg) from error
        place += len(line)
    return places


def _why(result: dict[str, Any]) -> str:
    response = result.get("response") or {}
    error = result.get("error") or (response.get("body") or {}).get("error") or f"status {response.get('status_code')}"
    return str(error.get("message") or error if isinstance(error, dict) else error)[:_MAX_CHARS]
