"""How alike two names are: cosine of their letter trigrams, or of the vectors of an encoder."""

import re
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, issparse

Vectors = npt.NDArray[np.float32]
Encoder = Callable[[Sequence[str]], Vectors]
"""Texts -> one vector each, (n, d); a sentence encoder such as MiniLM."""
_NUMBER = re.compile(r"\d+|\b(?:ii|iii|iv|v|vi|vii|viii|ix|x)\b")


class Trigrams:
    """Letter trigrams of names, weighted by how rare they are among some names; sparse, rows of length 1.

        w(t, name) = sqrt(count of t in name) * log(1 + n / (number of names with t))

    A trigram that none of these names has weighs as much as one that a single name has, so that a name with strange
    parts is like none of them.

    Args:
        names: normalised; they define the weights.
    """

    def __init__(self, names: Sequence[str]) -> None:
        ids: dict[str, int] = {}
        counts = _count(names, lambda t: ids.setdefault(t, len(ids)))
        self._ids = ids
        n_with = np.bincount(counts.indices, minlength=len(ids))
        self._n, self._idf = len(names), np.log1p(len(names) / np.maximum(n_with, 1)).astype(np.float32)
        self.vectors = self._weigh(counts)
        self.n_with = n_with

    def encode(self, names: Sequence[str]) -> Any:
        """Return the vectors of other names; a last column stands for all trigrams that are new."""
        return self._weigh(_count(names, lambda t: self._ids.get(t, len(self._ids))))

    def _weigh(self, counts: Any) -> Any:
        rare = np.append(self._idf, np.float32(np.log1p(self._n)))
        counts.data = np.sqrt(counts.data) * rare[counts.indices]
        lengths = np.sqrt(counts.multiply(counts).sum(axis=1))
        counts.data /= np.repeat(np.maximum(lengths, 1e-12), np.diff(counts.indptr)).astype(np.float32)
        return counts


class Nearest:
    """Finds the known name that a name is most like.

    Args:
        names: normalised known names.
        encode: a sentence encoder; None compares letters.
    """

    def __init__(self, names: Sequence[str], encode: Encoder | None = None) -> None:
        self._known: Any
        self._encode: Callable[[Sequence[str]], Any]
        if encode is None:
            trigrams = Trigrams(names)
            self._known, self._encode = trigrams.vectors, trigrams.encode
        else:
            self._known, self._encode = unit_rows(encode(names)), lambda some: unit_rows(encode(some))

    def similarities(self, name: str) -> Vectors:
        """Return the cosine of a name with each known name, (n,)."""
        row = self._encode([name])
        if issparse(row):
            row.resize(1, self._known.shape[1])  # new trigrams made the row shorter; they are in no known name
        found = self._known @ row.T
        return np.asarray(found.toarray() if issparse(found) else found, np.float32)[:, 0]


def numbers_of(name: str) -> list[str]:
    """Return the numbers in a normalised name, Roman ones up to ten among them: names that differ in them differ.

    Example:
        >>> numbers_of("rocky ii"), numbers_of("2001 a space odyssey")
        (['ii'], ['2001'])
    """
    return _NUMBER.findall(name)


def unit_rows(vectors: Vectors) -> Vectors:
    """Return vectors scaled to length 1; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)


def _count(names: Sequence[str], id_of: Callable[[str], int]) -> Any:
    parts = [_trigrams(name) for name in names]
    codes = np.fromiter((id_of(t) for t in chain.from_iterable(parts)), np.int64)
    ends = np.concatenate([[0], np.cumsum([len(p) for p in parts], dtype=np.int64)])
    n_columns = int(codes.max(initial=0)) + 1
    counts = csr_array((np.ones(len(codes), np.float32), codes, ends), shape=(len(names), n_columns))
    counts.sum_duplicates()
    return counts


def _trigrams(name: str) -> list[str]:
    padded = f" {name} "
    return [padded[i : i + 3] for i in range(len(padded) - 2)]
