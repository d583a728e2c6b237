"""Likeness of names: against a slow count, and with an encoder that a test can follow."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kg.similar import Nearest, Trigrams, unit_rows

_NAMES = st.lists(st.text("abc ", min_size=1, max_size=8), min_size=1, max_size=6, unique=True)


def slow(names: list[str], name: str) -> list[float]:
    def weights(text: str) -> dict[str, float]:
        parts = Counter(f" {text} "[i : i + 3] for i in range(len(text)))
        return {t: math.sqrt(c) * math.log1p(len(names) / n_with(t)) for t, c in parts.items()}

    def n_with(trigram: str) -> int:
        return max(1, sum(trigram in f" {other} " for other in names))

    mine = weights(name)
    found = []
    for other in map(weights, names):
        length = math.sqrt(sum(w * w for w in mine.values()) * sum(w * w for w in other.values()))
        found.append(sum(w * other.get(t, 0.0) for t, w in mine.items()) / length)
    return found


@given(_NAMES, st.text("abc ", min_size=1, max_size=8))
def test_likeness_is_the_cosine_of_weighted_trigrams(names: list[str], name: str) -> None:
    found = Nearest(names).similarities(name)
    if all(t in "".join(f" {n} |" for n in names) for t in (f" {name} "[i : i + 3] for i in range(len(name)))):
        np.testing.assert_allclose(found, slow(names, name), atol=1e-5)
    assert (found >= 0).all()
    assert (found <= 1 + 1e-5).all()


def test_equal_names_are_alike_and_strange_ones_are_not() -> None:
    nearest = Nearest(["star wars", "alien", "heat"])
    assert nearest.similarities("star wars").round(5).tolist() == [1.0, 0.0, 0.0]
    assert nearest.similarities("star wras").argmax() == 0
    assert nearest.similarities("xyz").tolist() == [0.0, 0.0, 0.0]


def test_an_encoder_decides_where_there_is_one() -> None:
    vectors = {"film": [3.0, 0.0], "movie": [1.0, 0.1], "food": [0.0, 2.0]}
    nearest = Nearest(["film", "food"], lambda some: np.array([vectors[s] for s in some], np.float32))
    assert nearest.similarities("movie").round(2).tolist() == pytest.approx([1.0, 0.1])


def test_a_zero_vector_stays_zero() -> None:
    assert unit_rows(np.zeros((1, 3), np.float32)).tolist() == [[0.0, 0.0, 0.0]]


def test_rows_have_length_one() -> None:
    vectors = Trigrams(["abc", "abd", "x"]).vectors
    assert np.allclose((vectors.multiply(vectors)).sum(axis=1), 1.0)
