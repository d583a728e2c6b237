"""Names that become part of Cypher text: nothing of a hostile string may survive in them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.model import LABELS, STRUCTURE, label_of, relationship_type_of
from tests.contracts.store import HOSTILE


@given(st.text())
def test_any_text_makes_a_harmless_name(text: str) -> None:
    for name, taken in ((label_of(text), LABELS), (relationship_type_of(text), STRUCTURE)):
        assert re.fullmatch(r"\w{1,65}", name)
        assert name not in taken


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_makes_a_harmless_name(text: str) -> None:
    assert not set("`\\'\"{}()[];$ \0\n\u2028") & set(label_of(text) + relationship_type_of(text))


@pytest.mark.parametrize(
    ("relation", "expected"),
    [
        ("has_genre", "HAS_GENRE"),
        ("film.film.genre", "FILM_FILM_GENRE"),
        ("主演", "主演"),
        ("interacted", "INTERACTED_"),
    ],
)
def test_ordinary_names_stay_readable(relation: str, expected: str) -> None:
    assert relationship_type_of(relation) == expected
