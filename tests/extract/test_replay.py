"""Recorded answers are served by unit or by prompt, and nothing is made up."""

import asyncio
import hashlib
import json
from pathlib import Path

import pytest

from extract.engine import extract
from extract.errors import TerminalProviderError
from extract.provider import Completion, Request
from extract.providers.replay import Replay
from kg.errors import ConfigError, FileFormatError
from tests.extract.asking import MoodMethod, moods
from tests.toy import ITEMS, toy_graph

pytestmark = pytest.mark.usefixtures("_mood_prompt")


def recorded(path: Path, *lines: object) -> Replay:
    file = path / "answers.jsonl"
    file.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines), encoding="utf-8")
    return Replay(Replay.Config(file, model="gpt-3.5"))


def ask(provider: Replay, unit: str, prompt: str = "p") -> Completion:
    return asyncio.run(provider.complete(Request("s", prompt, {}, 10, unit_id=unit)))


def test_answers_are_found_by_unit_and_by_prompt(tmp_path: Path) -> None:
    sha = hashlib.sha256(b"asked").hexdigest()
    provider = recorded(
        tmp_path,
        {"unit": "item:1", "text": "one", "n_prompt_tokens": 9, "n_completion_tokens": 4, "is_cut_off": True},
        "",
        {"prompt_sha": sha, "text": "by prompt"},
    )
    assert ask(provider, "item:1") == Completion("one", 9, 4, True)
    assert ask(provider, "item:1", "asked").text == "by prompt"


def test_an_unknown_unit_stops_the_run_and_is_named(tmp_path: Path) -> None:
    provider = recorded(tmp_path, {"unit": "item:1", "text": "one"})
    with pytest.raises(TerminalProviderError, match="has no answer for unit `item:2` .*1 recorded"):
        ask(provider, "item:2")


def test_a_recorded_run_becomes_a_graph(tmp_path: Path) -> None:
    provider = recorded(tmp_path, *({"unit": item, "text": moods("dark")} for item in ITEMS))
    result = extract(MoodMethod(), toy_graph(), provider, tmp_path / "ledger")
    assert result.summary.done == 8
    assert set(result.graph.sources["model"].to_pylist()) == {"gpt-3.5"}


@pytest.mark.parametrize(
    "line", ["nonsense", "[]", '{"text": "x"}', '{"unit": "x"}', '{"unit": 1, "text": "x"}', "\x00"]
)
def test_a_line_that_is_no_answer_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(FileFormatError, match=r"answers\.jsonl`, line 2, is .* expected a JSON object with `text`"):
        recorded(tmp_path, {"unit": "item:1", "text": "one"}, line)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the recorded answers `.*none\.jsonl`: No such file"):
        Replay(Replay.Config(tmp_path / "none.jsonl"))
