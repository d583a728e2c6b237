"""Batch endpoints: the open questions as the provider's batch file, and its results into the ledger.

Where a provider answers a file of requests within a day at a lower price: write the file, hand it in, fetch the
results, read them back, and write again; what was refused is then asked again with its errors. Whatever is open at last
can be asked directly, since both ways share the ledger.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from extract.chain import Chain, Questions, storable
from extract.chat_api import completion_of
from extract.engine_config import EngineConfig
from extract.errors import PassingProviderError
from extract.leak import TrainPairs
from extract.ledger import Ledger
from extract.ledger_rows import NewReply, Operation, StoredReply, meet_units, open_run, store
from extract.method import Method
from extract.providers.openai_api import OpenAIAPI
from extract.template import load_prompt
from kg.errors import FileFormatError
from kg.graph import Graph
from kg.terms import TRAIN

_PATH = "/v1/chat/completions"
_AT_ONCE = 1_000
_MAX_CHARS = 120


@dataclass(frozen=True)
class BatchRead:
    """What a file of results held.

    Attributes:
        stored: replies, valid or not, that are in the ledger now.
        known: results that no open question waits for; read before, or of other questions.
        failed: requests that the provider did not answer, by what it said; they stay open.
    """

    stored: int
    known: int
    failed: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as plain JSON values."""
        return asdict(self)


class Batch:
    """One extraction by way of a batch endpoint that speaks the OpenAI API; the arguments are those of `extract`.

    The `custom_id` of a request is the address of its question in the ledger: a result finds its question even after
    the data has changed, and a result that is read twice is stored once. Memory: 150 bytes a result while reading.
    """

    def __init__(
        self, method: Method, graph: Graph, provider: OpenAIAPI, ledger_path: Path, config: EngineConfig | None = None
    ) -> None:
        self._method, self._provider, self._ledger_path = method, provider, ledger_path
        self._config = config or EngineConfig()
        self._graph = graph.replace(interactions=graph.interactions_of(TRAIN))
        self._prompt = load_prompt(method.prompt)
        self._questions = Questions(method, self._prompt, provider.model, self._config)

    def write(self, path: Path) -> int:
        """Write the open questions, each once; an existing file is replaced only when all are written.

        Returns:
            The number of requests.

        Raises:
            LeakError: if a unit shows an interaction that is not in `train`; nothing was written.
            PromptError: if a unit's variables do not fit the prompt.
        """
        partial = path.with_name(f".{path.name}.partial")
        n_requests = 0
        with Ledger(self._ledger_path) as ledger, partial.open("w", encoding="utf-8") as out:
            self._enter(ledger)
            for chain in self._open_chains(ledger):
                (twice,) = ledger.write(meet_units([chain.key], n_requests == 0))
                if twice is None:
                    body = self._provider.body(self._questions.request(chain))
                    line = {"custom_id": chain.key, "method": "POST", "url": _PATH, "body": body}
                    out.write(json.dumps(line, ensure_ascii=False) + "\n")
                    n_requests += 1
            out.flush()
            os.fsync(out.fileno())
        partial.replace(path)
        return n_requests

    def read(self, path: Path) -> BatchRead:
        """Put the results of a batch into the ledger.

        Raises:
            FileFormatError: if a line is no result; nothing was stored.
        """
        with path.open("rb") as results, Ledger(self._ledger_path) as ledger:
            places = _index(results, path)
            n_results, failed = len(places), Counter[str]()
            stored = 0
            operations: list[Operation[None]] = []
            self._enter(ledger)
            for chain in self._open_chains(ledger):
                if (place := places.pop(chain.key, None)) is not None:
                    results.seek(place)
                    operations += self._take(chain, json.loads(results.readline()), failed)
                    if len(operations) == _AT_ONCE:
                        stored += len(ledger.write(*operations))
                        operations = []
            stored += len(ledger.write(*operations))
        return BatchRead(stored, n_results - stored - failed.total(), dict(failed.most_common()))

    def _enter(self, ledger: Ledger) -> None:
        q, prompt = self._questions, (self._prompt.name, self._prompt.version)
        ledger.write(open_run(q.run, self._method.name, prompt, q.model, q.request_parameters))

    def _open_chains(self, ledger: Ledger) -> Iterator[Chain]:
        pairs = TrainPairs(self._graph)
        for unit in islice(self._method.units(self._graph), self._config.max_units):
            pairs.check(unit)
            chain = self._questions.follow(self._questions.start(unit), ledger)
            if chain.is_open:
                yield chain

    def _take(self, chain: Chain, result: dict[str, Any], failed: Counter[str]) -> list[Operation[None]]:
        response = result.get("response") or {}
        try:
            if result.get("error") or response.get("status_code") != 200:
                failed[_why(result)] += 1
                return []
            got = completion_of(response["body"], "the batch")
        except (PassingProviderError, LookupError, TypeError, AttributeError) as error:
            failed[str(error)[:_MAX_CHARS]] += 1
            return []
        reply = StoredReply(chain.key, storable(got.text), got.is_cut_off, got.n_prompt_tokens, got.n_completion_tokens)
        answered, errors = self._questions.answered(chain, reply)
        run, unit_id = self._questions.run, chain.unit.unit_id
        return [store(NewReply(reply, run, unit_id, answered.attempts, chain.prompt, errors, 0.0))]


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
