import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.ground import AMBIGUOUS, NOT_IN_CATALOGUE, Catalogue, Likeness, concept_id, is_placeholder, normalise
from extract.methods.item_facts import ItemFacts
from extract.steps import extract_steps
from kg.errors import ConfigError
from tests.extract.asking import scripted
from tests.toy import toy_graph

_FILMS = {
    "item:1": "Usual Suspects, The (1995)",
    "item:2": "King Kong (1933)",
    "item:3": "King Kong (1976)",
    "item:4": "Toy Story",
    "item:5": "Postino, Il",
    "item:6": "Amélie (2001)",
    "item:7": "Fast & Furious",
    "item:8": "Alien",
    "item:9": "Alien",
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Usual Suspects, The (1995)", "item:1"),
        ("The Usual Suspects", "item:1"),
        ("the usual suspects (1995)", "item:1"),
        ("King Kong (1976)", "item:3"),
        ("TOY   STORY (1995)", "item:4"),
        ("Il postino", "item:5"),
        ("AMÉLIE", "item:6"),
        ("Ame\u0301lie", "item:6"),
        ("Fast and Furious", "item:7"),
        ("“Toy Story”", "item:4"),
        ("Usual Suspects", "item:1"),
    ],
)
def test_other_spellings_of_a_title_find_the_item(name: str, expected: str) -> None:
    assert Catalogue(_FILMS).ground(name).entity_id == expected


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("King Kong", AMBIGUOUS),
        ("Alien", AMBIGUOUS),
        ("King Kong (2005)", NOT_IN_CATALOGUE),
        ("The Usual Suspects (2005)", NOT_IN_CATALOGUE),
        ("Usual Suspects (2005)", NOT_IN_CATALOGUE),
        ("", NOT_IN_CATALOGUE),
        ("Toy Story 2", NOT_IN_CATALOGUE),
    ],
)
def test_nothing_is_guessed(name: str, reason: str) -> None:
    found = Catalogue(_FILMS).ground(name)
    assert (found.entity_id, found.reason) == (None, reason)


@given(st.dictionaries(st.sampled_from("abcdef"), st.text(max_size=12)), st.text(max_size=12))
def test_grounding_never_raises_and_its_answer_is_in_the_catalogue(names: dict[str, str], name: str) -> None:
    found = Catalogue(names).ground(name)
    assert found.entity_id in names if found.entity_id else found.reason in (AMBIGUOUS, NOT_IN_CATALOGUE)


@pytest.mark.parametrize("spelling", ["Dark", " dark ", "DARK!", "“dark”", "\uff44\uff41\uff52\uff4b"])
def test_spellings_of_a_concept_share_its_id(spelling: str) -> None:
    assert concept_id("Mood", spelling) == ("mood:dark", "dark")


@given(st.text(max_size=80), st.text(max_size=80))
def test_equal_concept_ids_have_equal_names_and_the_other_way_round(one: str, other: str) -> None:
    (first, name), (second, other_name) = concept_id("Mood", one), concept_id("Mood", other)
    assert (first == second) == (name == other_name)
    assert first.isascii()
    assert len(first) <= len("mood:") + 48


def test_a_name_in_another_script_gets_a_hash_of_its_own() -> None:
    night, rain = concept_id("Mood", "夜"), concept_id("Mood", "雨")
    assert night[0] != rain[0]
    assert night[1] == "夜"


@pytest.mark.parametrize("name", ["", "N/A", "Unknown", "...", "—", "none", "The"])
def test_placeholders_are_known(name: str) -> None:
    assert is_placeholder(normalise(name))


@pytest.mark.parametrize("name", ["dark", "夜", "1990s", "8½"])
def test_names_are_no_placeholders(name: str) -> None:
    assert not is_placeholder(normalise(name))


def test_a_misspelt_name_means_the_nearest_from_a_likeness_on() -> None:
    names = {"i1": "Star Wars (1977)", "i2": "Alien (1979)"}
    assert Catalogue(names).ground("Star Warz").reason == "not_in_catalogue"
    alike = Catalogue(names, Likeness(min_similarity=0.6))
    assert alike.ground("Star Warz").entity_id == "i1"
    assert alike.ground("Star Warz (1999)").reason == "not_in_catalogue"
    assert alike.ground("Solaris").reason == "not_in_catalogue"
    assert alike.ground("unknown").reason == "not_in_catalogue"


def test_two_names_that_are_equally_near_are_ambiguous() -> None:
    alike = Catalogue({"i1": "Alien", "i2": "alien!", "i3": "Heat"}, Likeness(min_similarity=0.5))
    assert alike.ground("Aliens").reason == "ambiguous"


_TITLES = {
    "i1": "Postino, Il (The Postman) (1994)",
    "i2": "Professional, The (a.k.a. Leon: The Professional)",
    "i3": "Wings of Desire (Der Himmel über Berlin) (1987)",
    "i4": "Die Hard (1988)",
    "i5": "Alive (Live)",
    "i6": "Wings",
    "i7": "Guitar Picks (Medium)",
}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("The Postman (1994)", "i1"),
        ("Il Postino", "i1"),
        ("The Professional (1994)", "i2"),
        ("Leon: The Professional", "i2"),
        ("Wings of Desire", "i3"),
        ("Himmel über Berlin", "i3"),
        ("Wings (Ali)", "i6"),
        ("The Wings", "i6"),
        ("The Postman (1997)", None),
        ("Hard", None),
        ("Live", None),
        ("Guitar Picks (Heavy)", None),
        ("(Medium)", None),
    ],
)
def test_a_name_without_its_brackets_or_article_and_the_title_in_brackets_find_the_item(
    name: str, found: str | None
) -> None:
    assert Catalogue(_TITLES).ground(name).entity_id == found


def test_a_part_that_several_names_have_is_ambiguous() -> None:
    assert Catalogue({"i1": "Solaris (the old one)", "i2": "Solaris (Solyaris)"}).ground("Solaris").reason == AMBIGUOUS


@pytest.mark.parametrize("sequel", ["Rocky II", "Rocky 2", "Rocky III"])
def test_a_sequel_is_not_like_the_first_film(sequel: str) -> None:
    likeness = Likeness(0.3, 0.3, lambda some: np.ones((len(some), 2), np.float32))
    assert Catalogue({"i1": "Rocky"}, likeness).ground(sequel).entity_id is None
    assert Catalogue({"i1": "Rocky"}, Likeness(0.3)).ground("Rockyy").entity_id == "i1"


def test_meaning_is_asked_where_letters_are_not_enough() -> None:
    vectors = {"film": [1.0, 0.0], "food": [0.0, 1.0], "motion picture": [0.9, 0.2], "fooood": [0.9, 0.2]}
    encode = lambda some: np.array([vectors[s] for s in some], np.float32)  # noqa: E731
    names = {"i1": "Film", "i2": "Food"}
    assert Catalogue(names, Likeness(0.6, 0.9, encode)).ground("Motion picture").entity_id == "i1"
    assert Catalogue(names, Likeness(0.6, 0.98, encode)).ground("Motion picture").reason == NOT_IN_CATALOGUE
    assert Catalogue(names, Likeness(0.6, 0.9, encode)).ground("Fooood").entity_id == "i2"


def test_meaning_without_an_encoder_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"min_meaning is 0\.9, but there is no encoder; give `encode`"):
        Likeness(min_meaning=0.9)


def test_the_share_of_names_that_the_catalogue_lacks_is_told(tmp_path: Path) -> None:
    method = ItemFacts(ItemFacts.Config(relations=("similar_to",), max_items=2))
    said = iter([["3", "Nobody's Film"], ["2"]])
    provider = scripted(lambda _: json.dumps({"similar_to": next(said)}))
    summary = extract_steps(method, toy_graph(), provider, tmp_path / "ledger").summary
    assert (summary.grounded, summary.rejects["not_in_catalogue"].count) == (2, 1)
    assert summary.ungrounded_share == pytest.approx(1 / 3)
    assert summary.to_dict()["ungrounded_share"] == summary.ungrounded_share
    moods = ItemFacts(ItemFacts.Config(relations=("has_mood",), max_items=1))
    provider = scripted(lambda _: json.dumps({"has_mood": ["dark"]}))
    assert extract_steps(moods, toy_graph(), provider, tmp_path / "ledger").summary.ungrounded_share is None
