"""The engine over HTTP, beside clients that only send and read; and from a ledger that holds every answer."""

import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
from yarl import URL

from extract.bench.endpoint import quick_api
from extract.bench.moods import REPLY, Moods, made_items
from extract.engine import EngineConfig, extract
from extract.loop import run_in_loop
from extract.post import Post
from extract.provider import Completion, Provider, Request
from extract.providers.openai_api import OpenAIAPI
from extract.template import load_prompt
from kg.progress import Progress, silent

_IN_FLIGHT, _LATENCY_S = 256, 0.05
_TURNS = 3
_MOST = 2**20


@dataclass(frozen=True)
class Row:
    """What one way took.

    Attributes:
        name: of the way.
        n_units: questions that were answered; tokens where the note says so.
        wall_s: from the first request, or the first look into the ledger, to the end; in the median turn.
        per_s: of these, in a second.
        share: of the ideal rate, which the note names if it is none of the rows; None where there is none.
        cpu_us: of this process, for each question.
        note: what else there is to know.
    """

    name: str
    n_units: int
    wall_s: float
    per_s: float
    share: float | None = None
    cpu_us: float | None = None
    note: str = ""


def over_http(n_units: int, progress: Progress = silent) -> list[Row]:
    """Ask an endpoint of this machine that answers after 50 ms, with 256 requests under way.

    Args:
        n_units: how many questions each way asks.
        progress: told after every way.

    Returns:
        The ideal, two bare clients and the engine, each in its median turn; the endpoint is another process.
    """
    ideal = _IN_FLIGHT / _LATENCY_S
    ways: dict[str, Callable[[str], float]] = {
        "bare client": lambda url: _bare(url, n_units),
        "aiohttp": lambda url: _aiohttp(url, n_units),
        "engine": lambda url: _engine(url, n_units),
    }
    turns: dict[str, list[Row]] = {name: [] for name in ways}
    for done, name in enumerate([*ways] * _TURNS, start=1):
        with quick_api(REPLY, _LATENCY_S) as url:
            cpu = time.process_time()
            wall_s = ways[name](url)
            cpu = time.process_time() - cpu
        per_s = n_units / wall_s
        turns[name].append(Row(name, n_units, wall_s, per_s, per_s / ideal, cpu / n_units * 1e6))
        progress(done, len(ways) * _TURNS, f"{name}: {per_s:,.0f}/s")
    return [Row("ideal", n_units, n_units / ideal, ideal, 1.0), *(_median(rows) for rows in turns.values())]


def _median(turns: list[Row]) -> Row:
    turns = sorted(turns, key=lambda row: row.wall_s)
    shares = ", ".join(f"{row.share:.1%} ({row.cpu_us:.0f} us)" for row in turns)
    return replace(turns[len(turns) // 2], note=f"{len(turns)} turns: {shares}")


def cached(n_units: int) -> list[Row]:
    """Fill a ledger, then run the same extraction again, for which nothing is asked."""
    graph, rows = made_items(n_units), []
    with tempfile.TemporaryDirectory(prefix="kglift-bench-") as folder:
        for name in ("engine, answers at once", "engine, answers in the ledger"):
            wall, cpu = time.perf_counter(), time.process_time()
            found = extract(Moods(), graph, _AtOnce(), Path(folder) / "ledger.sqlite")
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            note = f"{found.summary.cached:,} from the ledger; facts made, too"
            rows.append(Row(name, n_units, wall, n_units / wall, cpu_us=cpu / n_units * 1e6, note=note))
    return rows


class _AtOnce(Provider):
    """Answers without waiting; not in the registry."""

    def __init__(self) -> None:
        super().__init__(None)
        self._completion = Completion(REPLY, 10, 5)

    @property
    def model(self) -> str:
        return "at-once"

    @property
    def max_in_flight(self) -> int:
        return _IN_FLIGHT

    async def complete(self, request: Request) -> Completion:
        return self._completion


def _engine(url: str, n_units: int) -> float:
    provider = OpenAIAPI(OpenAIAPI.Config(url, "m", _IN_FLIGHT), "key")
    with tempfile.TemporaryDirectory(prefix="kglift-bench-") as folder:
        found = extract(Moods(), made_items(n_units), provider, Path(folder) / "ledger.sqlite")
    return found.summary.seconds


def _bare(url: str, n_units: int) -> float:
    body = _body(url)

    async def ask() -> float:
        post = Post(URL(url) / "chat" / "completions", "key")
        turns, began = iter(range(n_units)), time.perf_counter()

        async def work() -> None:
            for _ in turns:
                answer = await post.send(body, _MOST)
                assert answer is not None
                json.loads(answer.content)

        await asyncio.gather(*(work() for _ in range(_IN_FLIGHT)))
        await post.close()
        return time.perf_counter() - began

    return run_in_loop(ask())


def _aiohttp(url: str, n_units: int) -> float:
    body = _body(url)

    async def ask() -> float:
        turns, began = iter(range(n_units)), time.perf_counter()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def work() -> None:
                for _ in turns:
                    async with session.post(f"{url}/chat/completions", data=body) as response:
                        json.loads(await response.read())

            await asyncio.gather(*(work() for _ in range(_IN_FLIGHT)))
        return time.perf_counter() - began

    return run_in_loop(ask())


def _body(url: str) -> bytes:
    """Return what the engine sends for one item."""
    prompt = load_prompt(Moods.prompt)
    words = prompt.render({"title": "item:1"})
    request = Request(prompt.system, words, Moods.Reply.model_json_schema(), EngineConfig().max_tokens)
    return json.dumps(OpenAIAPI(OpenAIAPI.Config(url, "m"), "key").body(request)).encode()
