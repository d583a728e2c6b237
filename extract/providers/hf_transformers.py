"""A model of `transformers` inside this process, on a GPU or the processor: requests are answered in batches."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from extract.errors import TerminalProviderError, UnitError
from extract.provider import Completion, Provider, Request
from kg.errors import ConfigError
from kg.files import file_sha256

_GATHER_S = 0.02
_WEIGHTS = ("*.safetensors", "*.bin")


class Transformers(Provider, name="transformers"):
    """Answers from a model directory in the layout of Hugging Face, many requests in one generation.

    What is asked within 20 ms, or while a batch is under way, goes into the next batch. The reply schema stands in the
    instruction; nothing enforces it, so weaker models are asked again more often than with `local`.

    Limits: in a batch, padding lets rounding depend on the other prompts, so now and then a reply differs from the one
    that the same prompt gets alone. The ledger keeps what was said. Needs the extra `transformers`.

    Args:
        config: which model, how it is run.

    Raises:
        ConfigError: if the directory holds no model.
    """

    @dataclass(frozen=True)
    class Config:
        """The model, and how it is run.

        Attributes:
            model_path: a directory with `config.json`, weights and a tokenizer; nothing is fetched.
            batch_size: requests in one generation.
            device: as torch names it; empty: the first GPU, else the processor.

        Raises:
            ConfigError: if a value is out of range.
        """

        model_path: Path
        batch_size: int = 8
        device: str = ""

        def __post_init__(self) -> None:
            """Check the ranges."""
            if self.batch_size < 1:
                msg = f"`batch_size` is {self.batch_size}; expected 1 or more"
                raise ConfigError(msg)

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if not (config.model_path / "config.json").is_file():
            msg = (
                f"`{config.model_path}` holds no `config.json`; give the directory of a model in the layout of "
                "Hugging Face"
            )
            raise ConfigError(msg)
        self._waiting: list[tuple[Request, asyncio.Future[Completion]]] = []
        self._answering: asyncio.Task[None] | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._loaded: tuple[Any, Any] | None = None

    @cached_property
    def model(self) -> str:
        """`NAME@SHA`: the directory's name, and the start of a sha256 over its configuration and weights."""
        path = self.config.model_path
        files = sorted({path / "config.json", *(found for kind in _WEIGHTS for found in path.glob(kind))})
        sha = hashlib.sha256("".join(file_sha256(file) for file in files).encode()).hexdigest()
        return f"{path.resolve().name}@{sha[:12]}"

    @property
    def max_in_flight(self) -> int:
        """Two batches: one under way, one that gathers."""
        return 2 * self.config.batch_size

    async def complete(self, request: Request) -> Completion:
        """Answer one request, in a batch with others.

        Raises:
            TerminalProviderError: if the model does not load, or the memory does not hold a batch.
            UnitError: if the prompt and the longest reply do not fit the context.
        """
        answer: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, answer))
        if self._answering is None or self._answering.done():
            self._answering = asyncio.create_task(self._answer_all())
        return await answer

    async def close(self) -> None:
        """Wait for the batch under way and free the model."""
        if self._answering is not None:
            await asyncio.gather(self._answering, return_exceptions=True)
        pool, self._pool, self._answering, self._loaded = self._pool, None, None, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown)

    async def _answer_all(self) -> None:
        self._pool = self._pool or ThreadPoolExecutor(1, "transformers")
        loop = asyncio.get_running_loop()
        await asyncio.sleep(_GATHER_S)
        while self._waiting:
            batch = self._next_batch()
            try:
                got = await loop.run_in_executor(self._pool, self._generate, [request for request, _ in batch])
            except Exception as error:  # noqa: BLE001  whoever asked gets it
                got = [error] * len(batch)
            for (_, answer), said in zip(batch, got, strict=True):
                if answer.done():
                    continue
                if isinstance(said, Exception):
                    answer.set_exception(said)
                else:
                    answer.set_result(said)

    def _next_batch(self) -> list[tuple[Request, asyncio.Future[Completion]]]:
        """Take the requests that can be generated together with the first one."""
        first = _settings(self._waiting[0][0])
        batch = [one for one in self._waiting if _settings(one[0]) == first][: self.config.batch_size]
        taken = {id(answer) for _, answer in batch}
        self._waiting = [one for one in self._waiting if id(one[1]) not in taken]
        return batch

    def _generate(self, requests: Sequence[Request]) -> list[Completion | Exception]:
        import torch

        tokenizer, model = self._loaded or self._load()
        texts = [_chat(tokenizer, request) for request in requests]
        most, window = requests[0].max_tokens, getattr(model.config, "max_position_embeddings", None)
        sizes = [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
        fits = [window is None or size + most <= window for size in sizes]
        got: list[Completion | Exception] = [self._too_large(*one, window) for one in zip(requests, sizes, strict=True)]
        chosen = [place for place, is_fit in enumerate(fits) if is_fit]
        if not chosen:
            return got
        given = tokenizer([texts[i] for i in chosen], return_tensors="pt", padding=True, add_special_tokens=False)
        torch.manual_seed(requests[0].seed)
        try:
            with torch.inference_mode():
                written = model.generate(**given.to(model.device), **_sampling(requests[0]), max_new_tokens=most)
        except torch.OutOfMemoryError as error:
            msg = f"a batch of {len(chosen)} does not fit the memory of `{model.device}`; lower `batch_size`"
            raise TerminalProviderError(msg) from error
        for place, row in zip(chosen, written[:, given["input_ids"].shape[1] :].tolist(), strict=True):
            got[place] = _completion(tokenizer, row, sizes[place], model)
        return got

    def _too_large(self, request: Request, size: int, window: int | None) -> UnitError:
        return UnitError(
            f"unit `{request.unit_id}` has {size} tokens and may be answered with {request.max_tokens}, the context of "
            f"`{self.config.model_path.name}` is {window}; lower `max_tokens` or show less in a unit"
        )

    def _load(self) -> tuple[Any, Any]:
        import torch

        try:
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ModuleNotFoundError as error:
            msg = "`transformers` is not installed; install it with `pip install kglift[transformers]`"
            raise TerminalProviderError(msg) from error
        path = str(self.config.model_path)
        device = self.config.device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, padding_side="left")
            model = AutoModelForCausalLM.from_pretrained(path, local_files_only=True, dtype="auto").to(device).eval()
        except (OSError, ValueError, RuntimeError) as error:
            msg = f"`{path}` does not load: {str(error).splitlines()[0]}; fetch the model again"
            raise TerminalProviderError(msg) from error
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._loaded = (tokenizer, model)
        return self._loaded


def _settings(request: Request) -> tuple[int, float, int]:
    return request.max_tokens, request.temperature, request.seed


def _sampling(request: Request) -> dict[str, Any]:
    return {"do_sample": True, "temperature": request.temperature} if request.temperature else {"do_sample": False}


def _chat(tokenizer: Any, request: Request) -> str:
    system = f"{request.system}\nAnswer with one JSON object that fits this JSON schema:\n{json.dumps(request.schema)}"
    if not tokenizer.chat_template:
        return f"{system}\n\n{request.prompt}\n\n"
    messages = [{"role": "system", "content": system}, {"role": "user", "content": request.prompt}]
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return text


def _completion(tokenizer: Any, written: list[int], n_prompt: int, model: Any) -> Completion:
    end = model.generation_config.eos_token_id
    ends = set(end if isinstance(end, list) else [end])
    place = next((i for i, token in enumerate(written) if token in ends), None)
    kept = written if place is None else written[:place]
    text = tokenizer.decode(kept, skip_special_tokens=True)
    return Completion(text, n_prompt, len(kept) + (place is not None), is_cut_off=place is None)
