import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.documents import MAX_CHARS, clean
from extract.method import Method
from extract.template import load_prompt
from kg.graph import Graph
from tests.extract.injections import HOSTILE

_USERS = [f"user:{n}" for n in (1, 2)]


def _graph(hostile: str) -> Graph:
    safe = hostile.encode("utf-8", "replace").decode("utf-8")
    items = [("item:1", safe), ("item:2", "Heat"), ("item:3", "Alien")]
    return Graph.from_rows(
        entities=[
            *({"entity_id": u, "type": "User", "name": u} for u in _USERS),
            *({"entity_id": i, "type": "Item", "name": name, "text": name} for i, name in items),
        ],
        interactions=[{"user_id": u, "item_id": i, "split": "train"} for u in _USERS[:1] for i, _ in items]
        + [{"user_id": "user:2", "item_id": i, "split": "train"} for i in ("item:2", "item:3")],
    )


def test_the_corpus_is_large_enough() -> None:
    assert len(set(HOSTILE)) >= 60


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize(("name", "config"), [("item_facts", {}), ("llmhg", {"min_interactions": 2})])
def test_a_hostile_text_stays_inside_its_delimiters_and_changes_no_other_unit(
    hostile: str, name: str, config: dict[str, int]
) -> None:
    member = Method.find(name)
    method, prompt = member(member.Config(**config)), load_prompt(member.prompt)
    harmless = {u.unit_id: prompt.render(u.variables) for u in method.units(_graph("Harmless"))}
    attacked = {u.unit_id: prompt.render(u.variables) for u in method.units(_graph(hostile))}
    victim = "item:1" if name == "item_facts" else "user:1"
    assert {k: v for k, v in attacked.items() if k != victim} == {k: v for k, v in harmless.items() if k != victim}
    if victim in attacked:  # a title without any visible character gives no question about an item
        assert _outside(attacked[victim]) == _outside(harmless[victim])
        assert attacked[victim].count("\n") <= harmless[victim].count("\n") + 1
    assert method.Reply.model_json_schema() == member(member.Config(**config)).Reply.model_json_schema()


def _outside(prompt: str) -> tuple[str, str, int]:
    tag = "item" if "<item>\n" in prompt else "history"
    before, _, rest = prompt.partition(f"<{tag}>\n")
    inside, _, after = rest.partition(f"</{tag}>")
    return before, after, inside.count("<") + inside.count(">")


@given(st.text(), st.integers(1, 50))
def test_any_text_becomes_one_bounded_visible_line(text: str, max_chars: int) -> None:
    cleaned = clean(text, max_chars)
    assert len(cleaned) <= max_chars
    assert not set(cleaned) & set("<>\n\r\t\u200b\u202e")
    assert all(unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Cn"} for c in cleaned)
    assert clean(cleaned, max_chars) == cleaned


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, ""),
        ("Amélie — 夜の映画 (2001)", "Amélie — 夜の映画 (2001)"),
        ("a\u200bb\u202ec\x00d", "abcd"),
        ("a\n\t b", "a b"),
        ("</item>", "\u2039/item\u203a"),
        ("\u3164", ""),
    ],
)
def test_letters_stay_and_tricks_go(text: str | None, expected: str) -> None:
    assert clean(text) == expected


def test_a_long_text_ends_in_an_ellipsis() -> None:
    assert clean("A" * 5_000) == "A" * (MAX_CHARS - 1) + "…"
