"""Recorded answers: what a model said once, served again, for tests and published sets of answers."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ValidationError, model_validator

from extract.errors import TerminalProviderError
from extract.provider import Completion, Provider, Request
from kg.errors import ConfigError, FileFormatError


class _Record(BaseModel):
    """One line of the file."""

    text: str
    unit: str | None = None
    prompt_sha: str | None = None
    n_prompt_tokens: int = 0
    n_completion_tokens: int = 0
    is_cut_off: bool = False

    @model_validator(mode="after")
    def _is_found(self) -> Self:
        if self.unit is None and self.prompt_sha is None:
            msg = "neither `unit` nor `prompt_sha`"
            raise ValueError(msg)
        return self


class Replay(Provider, name="replay"):
    """Serves answers from a JSONL file; it never asks a model.

    Each line is an object with `text` and either `unit` (the unit's id) or `prompt_sha` (sha256 of the prompt text,
    which wins where both fit); `n_prompt_tokens`, `n_completion_tokens` and `is_cut_off` are optional.

    Raises:
        ConfigError: if the file does not exist.
        FileFormatError: if a line is no such object; the text names it.
    """

    @dataclass(frozen=True)
    class Config:
        """Where the answers are, and who gave them.

        Attributes:
            path: the JSONL file; None where the answers are given (`Replay.of`).
            model: the model that answered, e.g. `gpt-3.5-turbo`; part of every cache key.
        """

        path: Path | None = None
        model: str = "recorded"

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._by_unit: dict[str, Completion] = {}
        self._by_prompt: dict[str, Completion] = {}
        if config.path is not None:
            self._read(config.path)

    @classmethod
    def of(cls, answers: Mapping[str, str], model: str) -> Self:
        """Serve answers that an adapter of a foreign format read.

        Args:
            answers: text by unit.
            model: who answered.
        """
        made = cls(cls.Config(model=model))
        made._by_unit.update((unit, Completion(text, 0, 0)) for unit, text in answers.items())
        return made

    @property
    def model(self) -> str:
        """Identity of the model that answered once."""
        return self.config.model

    @property
    def max_in_flight(self) -> int:
        """How many requests may be under way at once."""
        return 16

    async def complete(self, request: Request) -> Completion:
        """Return the recorded answer.

        Raises:
            TerminalProviderError: if none was recorded for this unit.
        """
        sha = hashlib.sha256(request.prompt.encode()).hexdigest()
        found = self._by_prompt.get(sha) or self._by_unit.get(request.unit_id)
        if found is None:
            where = self.config.path or self.config.model
            msg = (
                f"`{where}` has no answer for unit `{request.unit_id}` (prompt sha256 {sha[:16]}..., "
                f"{len(self._by_unit) + len(self._by_prompt)} recorded); record it, or limit the units with `max_units`"
            )
            raise TerminalProviderError(msg)
        return found

    def _read(self, path: Path) -> None:
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            msg = f"cannot read the recorded answers `{path}`: {error.strerror}; give the path of a JSONL file"
            raise ConfigError(msg) from error
        for number, line in enumerate(lines, start=1):
            if line.strip():
                self._enter(line, number)

    def _enter(self, line: bytes, number: int) -> None:
        try:
            record = _Record.model_validate_json(line)
        except ValidationError as error:
            msg = (
                f"`{self.config.path}`, line {number}, is `{line[:60].decode(errors='replace')}`; expected a JSON "
                "object with `text`, and `unit` or `prompt_sha`"
            )
            raise FileFormatError(msg) from error
        completion = Completion(record.text, record.n_prompt_tokens, record.n_completion_tokens, record.is_cut_off)
        if record.prompt_sha is not None:
            self._by_prompt[record.prompt_sha] = completion
        if record.unit is not None:
            self._by_unit[record.unit] = completion
