"""Nearly equal names: none missed, found in much less than all pairs, and never across numbers or types."""

import random
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kg.errors import ConfigError
from kg.graph import Graph
from kg.resolve import ResolveConfig, cluster
from kg.similar import Trigrams
from kg.similar_names import SimilarConfig, similar_name_pairs, similar_pairs
from tests.kg.test_resolve import entities, merged

_WORDS = [
    *("red", "green", "blue", "dark", "light", "north", "south", "river", "stone", "house", "night", "day"),
    *("king", "queen", "war", "peace", "love", "lost"),
]


@given(st.lists(st.text("abcd ", min_size=1, max_size=7), max_size=12, unique=True), st.sampled_from([0.5, 0.7, 0.9]))
def test_no_pair_is_missed_and_none_is_invented(names: list[str], least: float) -> None:
    one, other, cosine = similar_pairs(names, least)
    found = dict(zip(zip(one.tolist(), other.tolist(), strict=True), cosine.tolist(), strict=True))
    dense = Trigrams(names).vectors.toarray() if names else np.zeros((0, 1))
    alike = dense @ dense.T
    for i in range(len(names)):
        for j in range(i + 1, len(names)):
            if abs(alike[i, j] - least) > 1e-4:
                assert ((i, j) in found) == (alike[i, j] >= least)
    assert all(abs(alike[pair] - c) < 1e-4 for pair, c in found.items())


def test_misspelt_names_of_one_type_are_one_and_numbers_keep_them_apart() -> None:
    graph = entities(
        ("p1", "Person", "Quentin Tarantino"), ("p2", "Person", "Quentin Tarrantino"),
        ("c", "City", "Quentin Tarantino"),
        ("s1", "Film", "Toy Story, Part 2"), ("s2", "Film", "Toy Story, Part 3"), ("i1", "Item", "Quentin Tarantino"),
        ("i2", "Item", "Quentin Tarrantino"), ("p3", "Person", "QUENTIN TARANTINO"),
    )  # fmt: skip
    pairs = similar_name_pairs(graph, SimilarConfig(min_similarity=0.8))
    assert merged(cluster(graph, pairs, ResolveConfig())) == {"p2": "p1", "p3": "p1"}
    assert {p[2] for p in pairs} == {
        "same name `quentin tarantino` of type `Person`",
        "`quentin tarantino` and `quentin tarrantino` of type `Person`: letters 0.81",
    }


def test_chains_of_similar_names_close_up_to_the_cap() -> None:
    names = ["the old river house", "the old river mouse", "the bold river mouse", "the bold liver mouse"]
    graph = entities(*((f"e{n}", "T", name) for n, name in enumerate(names)))
    pairs = similar_name_pairs(graph, SimilarConfig(min_similarity=0.6, min_candidate=0.5))
    assert sorted(sorted(pair[:2]) for pair in pairs) == [["e0", "e1"], ["e1", "e2"], ["e2", "e3"]]
    assert merged(cluster(graph, pairs, ResolveConfig(max_cluster=4))) == {f"e{n}": "e0" for n in range(1, 4)}
    resolution = cluster(graph, pairs, ResolveConfig(max_cluster=3))
    assert merged(resolution) == {}
    assert resolution.too_large == (("e0", "e1", "e2", "e3"),)


def test_an_encoder_decides_on_candidates_that_letters_leave_open() -> None:
    graph = entities(("a", "T", "big river house"), ("b", "T", "big river home"), ("c", "T", "big river mouse"))
    means = {"big river house": [1.0, 0.0], "big river home": [0.99, 0.1], "big river mouse": [0.0, 1.0]}
    asked: list[str] = []

    def encode(some: list[str]) -> np.ndarray:
        asked.extend(some)
        return np.array([means[s] for s in some], np.float32)

    config = SimilarConfig(min_similarity=0.95, min_candidate=0.5)
    assert similar_name_pairs(graph, config) == []
    (pair,) = similar_name_pairs(graph, config, encode)  # type: ignore[arg-type]
    assert set(pair[:2]) == {"a", "b"}
    assert pair[2].endswith("meaning 0.99")
    assert len(asked) == len(set(asked))


def names_of(n: int) -> list[str]:
    draw = random.Random(0)
    names: dict[str, None] = {}
    while len(names) < n:
        name = " ".join(draw.choices(_WORDS, k=draw.randint(1, 3))) + "".join(draw.choices("abcdefghijklmnop", k=6))
        names[name] = None
    return list(names)


@pytest.mark.slow
def test_a_hundred_thousand_names_take_less_than_a_minute() -> None:
    names = names_of(100_000)
    began = time.process_time()
    one, _, _ = similar_pairs(names, 0.85)
    assert time.process_time() - began < 60
    assert len(one) < 10 * len(names)


@pytest.mark.slow
def test_time_grows_much_slower_than_the_number_of_pairs() -> None:
    def seconds(names: list[str]) -> float:
        began = time.process_time()
        similar_pairs(names, 0.85)
        return time.process_time() - began

    names = names_of(80_000)
    seconds(names[:1_000])
    small, large = seconds(names[:10_000]), seconds(names)
    assert large < 40 * small  # eight times the names, 64 times the pairs


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_candidate": 0.4}, "min_candidate is 0.4 and min_similarity 0.85"),
        ({"min_candidate": 0.9}, "min_candidate is 0.9 and min_similarity 0.85"),
        ({"min_meaning": 1.5}, r"min_meaning is 1.5; expected a number in \[0, 1\]"),
    ],
)
def test_a_value_out_of_range_is_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SimilarConfig(**values)


def test_no_names_give_no_pairs(tmp_path: Path) -> None:
    assert [len(part) for part in similar_pairs([], 0.8)] == [0, 0, 0]
    assert similar_name_pairs(Graph.from_tables()) == []
