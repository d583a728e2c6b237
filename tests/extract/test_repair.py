"""Repair comes last, mends the form only, and never adds an end that is missing."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.provider import Completion, Request
from extract.repair import repair
from tests.extract.asking import check_totals, moods, run

pytestmark = pytest.mark.usefixtures("_mood_prompt")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Sure! {"moods": ["dark"]} Anything else?', {"moods": ["dark"]}),
        ('{"moods": ["dark", "tense",],}', {"moods": ["dark", "tense"]}),
        ("{'moods': ['dark', None, True]}", {"moods": ["dark", None, True]}),
        ('{"title": "say {a, }", }', {"title": "say {a, }"}),
        ('{"title": "a \\" [b, ]", "items": [1, ], }', {"title": 'a " [b, ]', "items": [1]}),
        ("{'title': 'say {a, }', }", {"title": "say {a, }"}),
    ],
)
def test_slips_of_form_are_mended(text: str, expected: object) -> None:
    mended = repair(text)
    assert mended is not None
    assert json.loads(mended) == expected


@pytest.mark.parametrize(
    "text", ['{"moods": ["dark"', '{"moods": [{"a": 1}, {"a": ', '{"moods": ["dark"}', "", "none", "{" * 99 + "}" * 99]
)
def test_what_lacks_its_end_or_its_sense_is_left(text: str) -> None:
    assert repair(text) is None


@given(st.text(alphabet="{}[]\"',:ab01 \\\n-") | st.text())
def test_it_never_raises_and_gives_json_or_nothing(text: str) -> None:
    mended = repair(text)
    assert mended is None or isinstance(json.loads(mended), dict)


@pytest.mark.parametrize("n_levels", [1_000, 40_000])
def test_deep_nesting_is_no_crash(n_levels: int) -> None:
    assert repair('{"a":' * n_levels + "1" + "}" * n_levels) is None


def test_a_unit_is_asked_again_first_and_its_last_reply_is_repaired(tmp_path: Path) -> None:
    result, provider = run(tmp_path, lambda r: "Here: " + moods("dark"), max_units=1, max_attempts=2)
    assert provider.n_calls == 2
    assert (result.summary.done, result.summary.repaired) == (1, 1)
    again, provider = run(tmp_path, [], max_units=1, max_attempts=2)
    assert provider.n_calls == 0
    assert again.graph.equals(result.graph)
    check_totals(again)


def test_a_cut_off_reply_is_never_repaired(tmp_path: Path) -> None:
    def script(request: Request) -> Completion:
        return Completion("Here: " + moods("dark"), 5, 5, is_cut_off=True)

    result, _ = run(tmp_path, script, max_units=1)
    assert (result.summary.set_aside, result.summary.repaired) == (1, 0)
    assert list(result.summary.set_aside_reasons) == ["cut_off"]
