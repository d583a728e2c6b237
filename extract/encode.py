"""Texts become vectors: a sentence encoder on this machine, and the vectors that it made, kept."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from extract.errors import ExtractorMissingError
from kg.errors import ConfigError, FileFormatError
from kg.files import file_sha256
from kg.similar import Vectors, unit_rows

_BATCH = 64
_MAX_TOKENS = 128
_ASKED_AT_ONCE = 500
_WEIGHTS = "model.safetensors"
_TABLE = """
CREATE TABLE IF NOT EXISTS vectors (model TEXT, text TEXT, vector BLOB, PRIMARY KEY (model, text)) WITHOUT ROWID
"""
_T = TypeVar("_T")


class SentenceEncoder:
    """Encodes texts by a model such as MiniLM; a `kg.similar.Encoder`.

        v = mean of the last hidden states over the tokens of the text, scaled to length 1                           (1)

    Limits: a text is read up to 128 tokens. Needs the extra `transformers`.

    Args:
        folder: the model's directory in the layout of Hugging Face; nothing is fetched.
        memory: an SQLite file; texts whose vectors stand in it are not encoded again. None keeps nothing.

    Raises:
        ConfigError: if the folder holds no model.

    Source:
        Reimers, Gurevych, "Sentence-BERT", EMNLP 2019, section 3: the mean over tokens. Weights for which (1) is right:
        sentence-transformers/all-MiniLM-L6-v2.

    Deviations:
        None known.
    """

    def __init__(self, folder: Path, memory: Path | None = None) -> None:
        if not (folder / _WEIGHTS).is_file():
            msg = (
                f"`{folder}` holds no `{_WEIGHTS}`; give the folder of an encoder: `kglift data where all-minilm-l6-v2`"
            )
            raise ConfigError(msg)
        self._folder, self._memory = folder, memory

    @cached_property
    def model(self) -> str:
        """`NAME@SHA`: the folder's name and the start of its weights' sha256."""
        return f"{self._folder.resolve().name}@{file_sha256(self._folder / _WEIGHTS)[:12]}"

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Return a vector of length 1 for each text, (n, d).

        Raises:
            ExtractorMissingError: if `transformers` is not installed.
            FileFormatError: if `memory` is no file of vectors.
        """
        if self._memory is None:
            return self._encode(texts)
        self._memory.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(sqlite3.connect(self._memory, timeout=60)) as memory:
                memory.execute(_TABLE)
                return self._remembered(texts, memory)
        except sqlite3.DatabaseError as error:
            msg = f"`{self._memory}` is no file of vectors: {error}; delete it, or give another path"
            raise FileFormatError(msg) from error

    def _remembered(self, texts: Sequence[str], memory: sqlite3.Connection) -> Vectors:
        wanted = list(dict.fromkeys(texts))
        known = dict(self._known(wanted, memory))
        for some in _parts([text for text in wanted if text not in known], _ASKED_AT_ONCE):
            rows = [(self.model, text, vector.tobytes()) for text, vector in zip(some, self._encode(some), strict=True)]
            with memory:  # an interrupted run keeps what it has
                memory.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)
            known |= {text: vector for _, text, vector in rows}
        return np.stack([np.frombuffer(known[text], np.float32) for text in texts])

    def _known(self, texts: Sequence[str], memory: sqlite3.Connection) -> Iterator[tuple[str, bytes]]:
        for some in _parts(texts, _ASKED_AT_ONCE):
            marks = ", ".join("?" * len(some))
            query = f"SELECT text, vector FROM vectors WHERE model = ? AND text IN ({marks})"
            yield from memory.execute(query, (self.model, *some))

    def _encode(self, texts: Sequence[str]) -> Vectors:
        import torch

        tokenizer, model = self._loaded
        order = sorted(range(len(texts)), key=lambda n: len(texts[n]))  # texts of one length need no padding
        found: dict[int, Any] = {}
        for places in _parts(order, _BATCH):
            some = [texts[n] for n in places]
            given = tokenizer(some, padding=True, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt")
            with torch.inference_mode():
                hidden = model(**given).last_hidden_state
            mask = given["attention_mask"][..., None]
            found |= zip(places, ((hidden * mask).sum(1) / mask.sum(1)).numpy(), strict=True)
        return unit_rows(np.stack([found[n] for n in range(len(texts))]))

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        try:
            from transformers import AutoModel, AutoTokenizer
            from transformers.utils import logging
        except ModuleNotFoundError as error:
            msg = "a sentence encoder needs `transformers`; install it with `pip install kglift[transformers]`"
            raise ExtractorMissingError(msg) from error
        logging.disable_progress_bar()
        path = str(self._folder)
        try:
            return (
                AutoTokenizer.from_pretrained(path, local_files_only=True),
                AutoModel.from_pretrained(path, local_files_only=True).eval(),
            )
        except (OSError, ValueError, RuntimeError) as error:
            msg = f"`{path}` does not load: {str(error).splitlines()[0]}; fetch the encoder again"
            raise ConfigError(msg) from error


def _parts(values: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
