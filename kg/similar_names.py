"""Candidates for entity resolution: names that are nearly alike, found without comparing all with all."""

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from kg.errors import ConfigError
from kg.graph import Graph
from kg.resolve import Pair, normalise
from kg.similar import Encoder, Trigrams, numbers_of, unit_rows
from kg.terms import ITEM, USER

_CHUNK = 2_000
_PAIRS_AT_ONCE = 500_000
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SimilarConfig:
    """When two names are nearly alike.

    Attributes:
        min_similarity: cosine of letter trigrams from which two names are the same thing, in [0.5, 1].
        min_candidate: cosine from which an encoder is asked, in [0.5, `min_similarity`].
        min_meaning: cosine of an encoder's vectors from which two such candidates are the same thing, in [0, 1].

    Raises:
        ConfigError: if a value is out of range.
    """

    min_similarity: float = 0.85
    min_candidate: float = 0.6
    min_meaning: float = 0.9

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0.5 <= self.min_candidate <= self.min_similarity <= 1.0:
            msg = (
                f"min_candidate is {self.min_candidate} and min_similarity {self.min_similarity}; "
                "expected 0.5 <= min_candidate <= min_similarity <= 1: below, nearly every pair is a candidate"
            )
            raise ConfigError(msg)
        if not 0.0 <= self.min_meaning <= 1.0:
            msg = f"min_meaning is {self.min_meaning}; expected a number in [0, 1]"
            raise ConfigError(msg)


def similar_name_pairs(graph: Graph, config: SimilarConfig | None = None, encode: Encoder | None = None) -> list[Pair]:
    """Find entities of one type with equal or nearly equal names; users and items are never touched.

    Two names are the same thing if their trigrams are alike enough, or, where an encoder is given, if they are
    somewhat alike and their vectors are. Names with different numbers in them never are: sequels and years.

    Args:
        graph: its entities.
        config: see `SimilarConfig`.
        encode: a sentence encoder, e.g. MiniLM; None leaves meaning out.

    Returns:
        Pairs for `kg.resolve.cluster`, with likeness in the reason.

    Source:
        Own rule; blocking by the rarest features follows prefix filtering: Bayardo, Ma, Srikant, "Scaling Up All Pairs
        Similarity Search", WWW 2007.

    Deviations:
        None known.
    """
    config = config or SimilarConfig()
    of_type: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    columns = (graph.entities[c].to_pylist() for c in ("type", "name", "entity_id"))
    for kind, name, entity in sorted(zip(*columns, strict=True)):
        if kind not in (USER, ITEM) and (plain := normalise(name)):
            of_type[kind][plain].append(entity)
    pairs: list[Pair] = []
    for kind, entities in sorted(of_type.items()):
        for name, same in entities.items():
            pairs += [(one, other, f"same name `{name}` of type `{kind}`") for one, other in pairwise(same)]
        names = list(entities)
        for one, other, how in _alike(names, config, encode):
            reason = f"`{names[one]}` and `{names[other]}` of type `{kind}`: {how}"
            pairs.append((entities[names[one]][0], entities[names[other]][0], reason))
    return pairs


def _alike(names: list[str], config: SimilarConfig, encode: Encoder | None) -> list[tuple[int, int, str]]:
    least = config.min_candidate if encode is not None else config.min_similarity
    ones, others, cosines = similar_pairs(names, least)
    numbers = [numbers_of(name) for name in names]
    kept = np.array([numbers[i] == numbers[j] for i, j in zip(ones, others, strict=True)], bool)
    ones, others, cosines = ones[kept], others[kept], cosines[kept]
    sure = cosines >= config.min_similarity
    found = [
        (int(i), int(j), f"letters {c:.2f}") for i, j, c in zip(ones[sure], others[sure], cosines[sure], strict=True)
    ]
    if encode is not None and not sure.all():
        asked = np.unique(np.concatenate([ones[~sure], others[~sure]]))
        vectors = unit_rows(encode([names[n] for n in asked]))
        one, other = (np.searchsorted(asked, some[~sure]) for some in (ones, others))
        meaning = np.einsum("nd,nd->n", vectors[one], vectors[other])
        found += [
            (int(i), int(j), f"meaning {m:.2f}")
            for i, j, m in zip(ones[~sure], others[~sure], meaning, strict=True)
            if m >= config.min_meaning
        ]
    return found


def similar_pairs(names: list[str], min_similarity: float) -> tuple[Ints, Ints, npt.NDArray[np.float32]]:
    """Return all pairs of names whose trigrams have at least a cosine, none missed.

    Features are put in the order of their rarity. If all that two names share lies beyond the first features of one of
    them, whose squares sum up to more than 1 - t^2, their cosine is below t; so only names that share one of their
    first, rare features are compared.

    Args:
        names: different from one another.
        min_similarity: t, in (0, 1].

    Returns:
        Places of the first and the second name of each pair, first < second, and their cosines.
    """
    if len(names) < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    trigrams = Trigrams(names)
    vectors = trigrams.vectors
    first = _prefixes(vectors, trigrams.n_with, min_similarity)
    columns = first.T.tocsr()
    found = []
    for start in range(0, len(names), _CHUNK):
        joined = (first[start : start + _CHUNK] @ columns).tocoo()
        one, other = joined.coords[0].astype(np.int64) + start, joined.coords[1].astype(np.int64)
        found.append(_checked(vectors, one[one < other], other[one < other], min_similarity))
    ones, others, cosines = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return ones, others, cosines


def _prefixes(vectors: Any, n_with: Ints, min_similarity: float) -> Any:
    """Keep the rarest features of each row, as many as the rest needs to be too small; values become 1."""
    rows = np.repeat(np.arange(vectors.shape[0]), np.diff(vectors.indptr))
    order = np.lexsort((vectors.indices, n_with[vectors.indices], rows))
    squares = vectors.data[order].astype(np.float64) ** 2
    before = np.cumsum(squares) - squares
    before -= np.repeat(before[vectors.indptr[:-1]], np.diff(vectors.indptr))
    kept = order[1.0 - before >= min_similarity**2 - 1e-6]  # what comes from here on may still reach t
    ones = np.ones(len(kept), np.int8)
    return csr_array((ones, (rows[kept], vectors.indices[kept])), shape=vectors.shape)


def _checked(vectors: Any, one: Ints, other: Ints, min_similarity: float) -> tuple[Ints, Ints, npt.NDArray[np.float32]]:
    parts = []
    for start in range(0, max(len(one), 1), _PAIRS_AT_ONCE):
        some = slice(start, start + _PAIRS_AT_ONCE)
        cosine = np.asarray(vectors[one[some]].multiply(vectors[other[some]]).sum(axis=1), np.float32)
        near = cosine >= min_similarity - 1e-6
        parts.append((one[some][near], other[some][near], cosine[near]))
    ones, others, cosines = (np.concatenate(p) for p in zip(*parts, strict=True))
    return ones, others, cosines
