from typing import Any

import pytest

from extract.method import Facts, Unit
from extract.methods.llmhg import LLMHG
from kg.errors import ConfigError
from kg.graph import Graph
from tests.toy import toy_graph

_ITEMS = ("item:1", "item:2", "item:3")
_UNIT = Unit(
    "user:1",
    {"max_angles": 3, "titles": ["Heat", "Long Goodbye, The (genres: Crime)", "C"]},
    tuple(("user:1", i) for i in _ITEMS),
)


def _facts(*angles: tuple[str, dict[str, list[int]]]) -> Facts:
    method = LLMHG(LLMHG.Config())
    given = [
        {"angle": a, "categories": [{"category": c, "items": items} for c, items in cats.items()]} for a, cats in angles
    ]
    return method.facts(method.Reply.model_validate({"angles": given}), _UNIT, toy_graph())


def _edges(facts: Facts) -> dict[tuple[str, str], dict[str, list[str]]]:
    """(angle, category) -> role -> members."""
    texts: dict[str, dict[str, str]] = {}
    for row in facts.rows["texts"]:
        texts.setdefault(row["entity_id"], {})[row["kind"]] = row["text"]
    edges: dict[tuple[str, str], dict[str, list[str]]] = {}
    for row in facts.rows["members"]:
        words = texts[row["hyperedge_id"]]
        edges.setdefault((words["angle"], words["category"]), {}).setdefault(row["role"], []).append(row["entity_id"])
    return edges


def test_a_category_becomes_a_hyperedge_with_its_user_items_and_interest() -> None:
    facts = _facts(("Mood", {"Slapstick fun": [1, 3], "Dark": [2, 3]}))
    assert _edges(facts) == {
        ("mood", "slapstick fun"): {
            "user": ["user:1"],
            "item": ["item:1", "item:3"],
            "interest": ["interest:slapstick-fun"],
        },
        ("mood", "dark"): {"user": ["user:1"], "item": ["item:2", "item:3"], "interest": ["interest:dark"]},
    }
    assert [e["weight"] for e in facts.rows["hyperedges"]] == [1.0, 1.0]
    assert [(t["tail"], t["confidence"]) for t in facts.rows["triples"]] == [
        ("interest:slapstick-fun", 2 / 3),
        ("interest:dark", 2 / 3),
    ]
    assert facts.rejected == []


def test_omitted_items_go_to_other_which_is_no_interest() -> None:
    facts = _facts(("mood", {"dark": [2]}))
    assert _edges(facts)["mood", "other"] == {"user": ["user:1"], "item": ["item:1", "item:3"]}
    assert [e["weight"] for e in facts.rows["hyperedges"]] == [1.0, 0.5]
    assert [t["tail"] for t in facts.rows["triples"]] == ["interest:dark"]


def test_invented_numbers_are_dropped_and_counted() -> None:
    facts = _facts(("mood", {"dark": [0, 1, 2, 3, 4, -7, 10**30]}))
    assert [r.reason for r in facts.rejected] == ["unknown_number"] * 4
    assert _edges(facts)["mood", "dark"]["item"] == list(_ITEMS)


def test_repeated_numbers_and_categories_are_merged_and_counted() -> None:
    facts = _facts(("mood", {"dark": [1, 1], "Dark!": [2]}), ("Mood", {"DARK": [3]}))
    assert [r.reason for r in facts.rejected] == ["duplicate"] * 3
    assert _edges(facts) == {
        ("mood", "dark"): {"user": ["user:1"], "item": list(_ITEMS), "interest": ["interest:dark"]}
    }


def test_an_interest_seen_from_two_angles_is_one_entity_with_the_share_of_its_items() -> None:
    facts = _facts(("mood", {"dark": [1]}), ("style", {"dark": [2]}))
    assert [(t["tail"], t["confidence"]) for t in facts.rows["triples"]] == [("interest:dark", 2 / 3)]
    assert len(facts.rows["hyperedges"]) == 4


@pytest.mark.parametrize(
    ("angle", "categories", "reason"),
    [
        ("unknown", {"dark": [1]}, "placeholder"),
        ("mood", {"...": [1]}, "placeholder"),
        ("mood", {"dark": []}, "no_item"),
        ("mood", {"Mood 1": [1]}, "placeholder"),
        ("mood", {"moods": [1]}, "placeholder"),
        ("mood", {"Heat": [1]}, "repeats_title"),
        ("mood", {"The long goodbye": [1]}, "repeats_title"),
        ("mood", {"long goodbye": [1]}, "repeats_title"),
        ("style", {"Mood": [1]}, "repeats_prompt"),
        ("style", {"stories": [1]}, "repeats_prompt"),
        ("style", {"Period 2": [1]}, "repeats_prompt"),
        ("style", {"what attracts this user": [1]}, "repeats_prompt"),
    ],
)
def test_an_angle_or_category_that_says_nothing_gives_nothing(
    angle: str, categories: dict[str, list[int]], reason: str
) -> None:
    facts = _facts((angle, categories))
    assert [r.reason for r in facts.rejected] == [reason]
    assert not any(facts.rows.values())


def test_given_angles_are_an_enumeration_and_others_are_dropped() -> None:
    method = LLMHG(LLMHG.Config(angles=("Genre", "mood")))
    assert method.Reply.model_json_schema()["$defs"]["Angle"]["properties"]["angle"]["enum"] == ["Genre", "mood"]
    given = [{"angle": a, "categories": [{"category": "dark", "items": [1]}]} for a in ("genre", "era")]
    facts = method.facts(method.Reply.model_validate({"angles": given}), _UNIT, toy_graph())
    assert [(r.reason, r.what) for r in facts.rejected] == [("unknown_angle", "angle: era")]
    assert {angle for angle, _ in _edges(facts)} == {"genre"}


def test_a_given_angle_is_no_category_and_a_word_of_the_question_may_be_one() -> None:
    method = LLMHG(LLMHG.Config(angles=("genre", "era")))
    given = [{"angle": "genre", "categories": [{"category": c, "items": [1]} for c in ("Era", "history", "user")]}]
    facts = method.facts(method.Reply.model_validate({"angles": given}), _UNIT, toy_graph())
    assert [(r.reason, r.what) for r in facts.rejected] == [("repeats_prompt", "category: genre/Era")]
    assert [t["tail"] for t in facts.rows["triples"]] == ["interest:history", "interest:user"]


def test_hyperedge_ids_tell_users_angles_and_categories_apart_and_stay_the_same() -> None:
    facts = _facts(("mood", {"dark": [1, 2, 3]}), ("style", {"dark": [1, 2], "light": [1]}))
    ids = [e["hyperedge_id"] for e in facts.rows["hyperedges"]]
    assert len(set(ids)) == len(ids) == 4
    assert ids[0] == "interest_of:8ad86a42b97b5d58"


def test_the_last_train_items_by_time_are_shown_oldest_first() -> None:
    rows: list[dict[str, Any]] = [
        {"user_id": "user:1", "item_id": f"item:{n}", "timestamp": t, "split": s}
        for n, t, s in [(1, 30, "train"), (2, 10, "train"), (3, 20, "train"), (4, 40, "valid"), (5, 50, "test")]
    ]
    rows.append({"user_id": "user:2", "item_id": "item:1", "timestamp": 1, "split": "train"})
    names = ["Ann", "Bea", *"ABCDE"]
    ids = ["user:1", "user:2", *(f"item:{n}" for n in range(1, 6))]
    graph = Graph.from_rows(
        entities=[
            {"entity_id": i, "type": "User" if i[0] == "u" else "Item", "name": n, "text": f"{n}. genres: Drama"}
            for i, n in zip(ids, names, strict=True)
        ],
        interactions=rows,
    )
    (unit,) = LLMHG(LLMHG.Config(min_interactions=2, n_items=2)).units(graph)
    assert unit.unit_id == "user:1"
    assert unit.variables["titles"] == ["C (genres: Drama)", "A (genres: Drama)"]
    assert unit.shown == (("user:1", "item:3"), ("user:1", "item:1"))


@pytest.mark.parametrize(("name", "value"), [("n_items", 0), ("max_angles", 11), ("other_weight", -0.5)])
def test_a_value_out_of_range_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"`{name}` is {value}; expected a value from"):
        LLMHG.Config(**{name: value})
