"""Titles that a real model wrote: how many are found, and how many of those rightly, as their years tell."""

import json
import re
import sqlite3
from functools import cache
from pathlib import Path

import pytest

from extract.encode import SentenceEncoder
from extract.ground import Catalogue, Likeness
from extract.recordings.agent4rec import Agent4Rec
from kglift.downloads import cached_path, is_cached
from tests.shared_data import shared
from tests.toy import toy_graph

_YEAR = re.compile(r"\s*\((\d{4})\)\s*$")
Years = dict[str, str]


@cache
def titles(folder: Path) -> tuple[dict[str, str], Years, list[tuple[str, str]]]:
    """Names and years of ML-1M's films, and the (name, year) pairs that gpt-3.5-turbo wrote; years are only for us."""
    recording = Agent4Rec(folder)
    catalogue = {i: _YEAR.split(title)[:2] for i, title in recording._titles.items()}
    personas = map(json.loads, recording.answers(toy_graph()).values())
    said = sorted({title for persona in personas for taste in persona["tastes"] for title in taste["titles"]})
    written = [(parts[0], parts[1]) for parts in map(_YEAR.split, said) if len(parts) == 3]
    return {i: name for i, (name, _) in catalogue.items()}, {i: year for i, (_, year) in catalogue.items()}, written


def found(likeness: Likeness) -> tuple[int, int, int]:
    """Return how many titles were written, found, and found rightly."""
    names, years, written = titles(shared("agent4rec-ml1m"))
    catalogue = Catalogue(names, likeness)
    ids = [(catalogue.ground(name).entity_id, year) for name, year in written]
    return len(ids), sum(i is not None for i, _ in ids), sum(i is not None and years[i] == year for i, year in ids)


def test_what_is_found_without_guessing_is_nearly_always_right() -> None:
    assert found(Likeness()) == (2949, 2799, 2794)


def test_the_default_likeness_finds_more_and_nothing_wrong() -> None:
    assert found(Likeness(0.85)) == (2949, 2802, 2797)


@pytest.mark.slow
def test_minilm_finds_more_from_nine_tenths_on_and_guesses_below(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra `transformers` is not installed")
    if not is_cached("all-minilm-l6-v2"):
        pytest.skip("the encoder is not here: kglift data get all-minilm-l6-v2")
    memory = tmp_path / "vectors.sqlite"
    encode = SentenceEncoder(cached_path("all-minilm-l6-v2"), memory)
    n, strict, right = found(Likeness(1.0, 0.9, encode))
    assert (n, strict - 2799, right - 2794) == (2949, 2, 2)
    _, loose, right = found(Likeness(1.0, 0.6, encode))
    assert loose - 2799 > 2 * (right - 2794) > 4  # below, most of what it finds is another film
    with sqlite3.connect(memory) as kept:
        assert kept.execute("SELECT count(*) FROM vectors").fetchone()[0] > 3_000
