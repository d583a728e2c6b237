"""A small model inside this process: llama.cpp by `xllamacpp`, its replies held to the JSON schema."""

import asyncio
import json
import os
import queue
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import xllamacpp

from extract.errors import TerminalProviderError, UnitError
from extract.provider import Completion, Provider, Request
from kg.errors import ConfigError
from kg.files import file_sha256

_MAGIC = b"GGUF"
_MAX_COPIES = 8


class Local(Provider, name="local"):
    """Answers from a GGUF file on the processor, several requests at once.

    Each of `n_copies` copies of the model has `n_threads` threads and one slot. On few cores that is faster
    than several slots in one batch, and a reply does not depend on what else is asked at the same time. With
    `cache_prompt` a copy keeps the words that its last two prompts share, which halves the time but lets rounding
    depend on the order of requests: now and then a reply differs between two runs. The ledger keeps what was said.

    Limits: about 130 MB of memory a copy with a 100 MB model, on top of the file.

    Args:
        config: which file, how many copies.

    Raises:
        TerminalProviderError: if the file is absent or no GGUF file.
    """

    @dataclass(frozen=True)
    class Config:
        """The model file, and how it is run.

        Attributes:
            model_path: a GGUF file.
            n_ctx: tokens of one prompt and its reply together.
            n_copies: requests answered at once; None: as many as the cores carry, at most 8.
            n_threads: threads of each copy.
            cache_prompt: keep what two prompts share; off: the same reply in any order, at twice the time.
            repeat_penalty: above 1 a small model repeats itself less.
        """

        model_path: Path
        n_ctx: int = 2048
        n_copies: int | None = None
        n_threads: int = 1
        cache_prompt: bool = True
        repeat_penalty: float = 1.1

        def __post_init__(self) -> None:
            """Check the ranges."""
            bounds = {"n_ctx": (64, 2**20), "n_copies": (1, 256), "n_threads": (1, 256), "repeat_penalty": (0.5, 2.0)}
            for name, (low, high) in bounds.items():
                value = getattr(self, name)
                if value is not None and not low <= value <= high:
                    msg = f"`{name}` is {value}; expected a value from {low} to {high}"
                    raise ConfigError(msg)

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        _check_file(config.model_path)
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._pool: ThreadPoolExecutor | None = None

    @cached_property
    def model(self) -> str:
        """`NAME@SHA`: the file's stem, with its quantisation, and the start of its sha256; then what else decides."""
        path = self.config.model_path
        default = Local.Config.repeat_penalty
        penalty = self.config.repeat_penalty
        return f"{path.stem}@{file_sha256(path)[:12]}" + ("" if penalty == default else f"+repeat_penalty={penalty:g}")

    @property
    def max_in_flight(self) -> int:
        """As many requests as there are copies."""
        return self.config.n_copies or max(1, min(_MAX_COPIES, n_cores() // self.config.n_threads))

    async def complete(self, request: Request) -> Completion:
        """Answer one request in a thread of its own.

        Raises:
            TerminalProviderError: if the model does not load or refuses the request.
            UnitError: if the prompt and the longest reply do not fit the context.
        """
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.max_in_flight, thread_name_prefix="llama")
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._answer, request)

    async def close(self) -> None:
        """Wait for the replies under way and free the memory of all copies."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)
        while not self._idle.empty():
            self._idle.get_nowait()

    def _answer(self, request: Request) -> Completion:
        try:
            copy = self._idle.get_nowait()
        except queue.Empty:
            copy = self._load()
        try:
            if self.config.cache_prompt:
                copy.handle_chat_completions(self._rewinding(request))
            reply = copy.handle_chat_completions(self._body(request))
        except (ValueError, RuntimeError) as error:
            msg = (
                f"`{self.config.model_path.name}` refused the request: {error}; correct the reply model or the settings"
            )
            raise TerminalProviderError(msg) from error
        finally:
            self._idle.put(copy)
        return self._completion(reply, request)

    def _load(self) -> Any:
        params = xllamacpp.CommonParams()
        params.model.path = str(self.config.model_path)
        params.n_ctx, params.n_parallel = self.config.n_ctx, 1
        params.n_gpu_layers = 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self.config.n_threads
        params.verbosity = 0
        params.cache_ram_mib = 0
        params.fit_params = params.warmup = False
        try:
            return xllamacpp.Server(params)
        except RuntimeError as error:
            msg = (
                f"`{self.config.model_path}` does not load: {error} It is damaged, or of a kind that this llama.cpp "
                "does not know; fetch it again, or free some memory"
            )
            raise TerminalProviderError(msg) from error

    def _body(self, request: Request) -> dict[str, Any]:
        return {
            "messages": [
                {"role": "system", "content": request.system},
                {"role": "user", "content": request.prompt},
            ],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "seed": request.seed,
            "repeat_penalty": self.config.repeat_penalty,
            "cache_prompt": self.config.cache_prompt,
            "grammar": compact_grammar(json.dumps(request.schema, sort_keys=False)),
        }

    def _rewinding(self, request: Request) -> dict[str, Any]:
        """Return a request that takes the cache back to what all units share: the prompt before its first tag.

        Otherwise the cache would keep what happens to agree with the unit before, and where the rest is cut decides how
        it is rounded, so a reply would depend on the order of the units and on where a run was stopped.
        """
        shared = request._replace(prompt=request.prompt.partition("\n<")[0].rstrip(), max_tokens=1)
        return {key: value for key, value in self._body(shared).items() if key != "grammar"}

    def _completion(self, reply: Mapping[str, Any], request: Request) -> Completion:
        name, n_ctx = self.config.model_path.name, self.config.n_ctx
        if "error" in reply:
            error = reply["error"]
            if error.get("type") == "exceed_context_size_error":
                msg = (
                    f"unit `{request.unit_id}` has {error.get('n_prompt_tokens')} tokens, the context of `{name}` is "
                    f"{n_ctx}; raise `n_ctx` or show less in a unit"
                )
                raise UnitError(msg)
            msg = f"`{name}` refused unit `{request.unit_id}`: {error.get('message')}; correct the request"
            raise TerminalProviderError(msg)
        usage, choice = reply["usage"], reply["choices"][0]
        return Completion(
            choice["message"]["content"] or "",
            int(usage["prompt_tokens"]),
            int(usage["completion_tokens"]),
            choice["finish_reason"] == "length",
        )


@lru_cache(maxsize=16)
def compact_grammar(schema: str) -> str:
    """Return the grammar of a JSON schema (as text) without white space between its parts.

    A small model spends half its tokens on line breaks where it may write them. Bounds of strings, arrays and
    numbers, enumerations and `$ref` are kept.

    Args:
        schema: a JSON schema as pydantic emits it.
    """
    grammar: str = xllamacpp.json_schema_to_grammar(
        {**json.loads(schema), "x-guidance": {"whitespace_flexible": False}}
    )
    return grammar


def _check_file(path: Path) -> None:
    try:
        with path.open("rb") as handle:
            start = handle.read(len(_MAGIC))
    except OSError as error:
        msg = f"cannot read the model `{path}`: {error.strerror}; fetch it, or give the path of a GGUF file"
        raise TerminalProviderError(msg) from error
    if start != _MAGIC:
        msg = f"`{path}` is no GGUF file: it begins with {start!r}, expected {_MAGIC!r}; fetch it again"
        raise TerminalProviderError(msg)


def n_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
