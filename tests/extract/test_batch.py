"""A provider's batch file and back: each question once, each answer in the ledger, nothing paid for twice."""

import errno
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extract.batch import Batch, BatchRead, BatchStep
from extract.engine import EngineConfig, extract
from extract.ledger import Ledger
from extract.method import Unit
from extract.providers.openai_api import OpenAIAPI
from kg.errors import FileFormatError, LeakError, WriteError
from kg.graph import Graph
from tests.extract.asking import MoodMethod, check_totals, moods
from tests.extract.mock_api import answer, mock_api
from tests.toy import ITEMS, toy_graph

pytestmark = pytest.mark.usefixtures("_mood_prompt")
_END = BatchStep("", 1, 0)


def new_batch(folder: Path, method: MoodMethod | None = None, **config: Any) -> Batch:
    provider = OpenAIAPI(OpenAIAPI.Config("http://batch.example/v1", "m"), "key")
    return Batch(method or MoodMethod(), toy_graph(), provider, folder / "ledger", EngineConfig(**config))


def requests(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def item_of(request: dict[str, Any]) -> str:
    found: str = request["body"]["messages"][1]["content"].split()[1]
    return found


def result(request: dict[str, Any], text: str, status: int = 200, **more: Any) -> str:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    body = {"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}
    response = {"status_code": status, "request_id": "r", "body": body}
    return json.dumps({"id": "x", "custom_id": request["custom_id"], "response": response, "error": None, **more})


def read(batch: Batch, folder: Path, *lines: str) -> BatchRead:
    (folder / "results.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return batch.read(folder / "results.jsonl")


def test_a_batch_goes_out_and_comes_back_as_facts_without_a_call(tmp_path: Path) -> None:
    batch = new_batch(tmp_path)
    assert batch.write(tmp_path / "ask.jsonl") == BatchStep("mood", 1, len(ITEMS))
    asked = requests(tmp_path / "ask.jsonl")
    assert [item_of(one) for one in asked] == ITEMS
    assert {(one["method"], one["url"]) for one in asked} == {("POST", "/v1/chat/completions")}
    assert asked[0]["body"]["response_format"]["type"] == "json_schema"
    lines = [result(one, moods("dark", item_of(one))) for one in reversed(asked)]
    assert read(batch, tmp_path, *lines) == BatchRead(len(ITEMS), 0, 0, {}, _END)
    assert read(batch, tmp_path, *lines) == BatchRead(0, len(ITEMS), 0, {}, _END), "read twice it is stored once"
    assert batch.write(tmp_path / "ask.jsonl") == _END
    assert (tmp_path / "ask.jsonl").read_text(encoding="utf-8") == ""
    provider = OpenAIAPI(OpenAIAPI.Config("http://batch.example/v1", "m"), "key")
    made = extract(MoodMethod(), toy_graph(), provider, tmp_path / "ledger")
    assert (made.summary.done, made.summary.calls, made.summary.paid_tokens) == (len(ITEMS), 0, 15 * len(ITEMS))
    check_totals(made)


def test_what_failed_stays_open_and_what_was_refused_is_asked_again_with_its_errors(tmp_path: Path) -> None:
    batch = new_batch(tmp_path)
    batch.write(tmp_path / "ask.jsonl")
    first, second, third, fourth, *others = requests(tmp_path / "ask.jsonl")
    found = read(
        batch,
        tmp_path,
        result(first, "no JSON"),
        result(second, "", error={"code": "batch_expired", "message": "not answered in time"}),
        result(third, "", status=429),
        json.dumps({"custom_id": fourth["custom_id"], "response": {"status_code": 200, "body": {}}}),
        *(result(one, moods("dark")) for one in others),
        json.dumps({"custom_id": "of another batch", "response": None}),
    )
    assert (found.stored, found.known, found.set_aside) == (len(ITEMS) - 3, 1, 0)
    assert found.next == BatchStep("mood", 1, 4)
    assert {why.partition(":")[0]: count for why, count in found.failed.items()} == {
        "not answered in time": 1,
        "status 429": 1,
        "the batch sent an answer without a choice": 1,
    }
    assert batch.write(tmp_path / "again.jsonl").open == 4
    again = requests(tmp_path / "again.jsonl")
    assert [item_of(one) for one in again] == ITEMS[:4]
    assert "Answer 1 was refused" in again[0]["body"]["messages"][1]["content"]
    assert again[1] == second


def test_the_rest_of_a_batch_can_be_asked_directly(tmp_path: Path) -> None:
    with mock_api(lambda body, n: answer(moods("dark"))) as api:
        provider = OpenAIAPI(OpenAIAPI.Config(api.base_url, "m"), "key")
        batch = Batch(MoodMethod(), toy_graph(), provider, tmp_path / "ledger")
        batch.write(tmp_path / "ask.jsonl")
        read(batch, tmp_path, *(result(one, moods("dark")) for one in requests(tmp_path / "ask.jsonl")[:5]))
        made = extract(MoodMethod(), toy_graph(), provider, tmp_path / "ledger")
    assert len(api.bodies) == len(ITEMS) - 5
    assert made.summary.done == len(ITEMS)


def test_units_that_ask_the_same_are_one_request(tmp_path: Path) -> None:
    class Same(MoodMethod):
        def units(self, graph: Graph) -> Iterator[Unit]:
            return (Unit(item, {"name": "the same"}) for item in ITEMS)

    batch = new_batch(tmp_path, Same())
    assert batch.write(tmp_path / "ask.jsonl").open == 1
    (asked,) = requests(tmp_path / "ask.jsonl")
    assert read(batch, tmp_path, result(asked, moods("dark"))) == BatchRead(1, 0, 0, {}, _END)


def test_a_unit_that_the_model_cannot_take_is_set_aside_and_the_rest_goes_on(tmp_path: Path) -> None:
    batch = new_batch(tmp_path)
    batch.write(tmp_path / "ask.jsonl")
    first, *others = requests(tmp_path / "ask.jsonl")
    said = {"message": "This model's maximum context length is 8 tokens", "code": "context_length_exceeded"}
    refused = {"status_code": 400, "body": {"error": said}}
    line = json.dumps({"custom_id": first["custom_id"], "response": refused})
    found = read(batch, tmp_path, line, *(result(one, moods("dark")) for one in others))
    assert found == BatchRead(len(ITEMS) - 1, 0, 1, {}, _END)
    assert batch.write(tmp_path / "again.jsonl").open == 0, "it waits for `retry`"
    with Ledger(tmp_path / "ledger") as ledger:
        (run,) = ledger.runs()
        (aside,) = ledger.units(run.run, "set_aside")
        assert aside.reason.startswith("too_large: the batch says 400: This model's maximum context length is 8 tokens")
        assert ledger.retire(run.run) == 1
    assert batch.write(tmp_path / "again.jsonl").open == 1


def test_a_leak_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(LeakError, match="shows the interaction"):
        new_batch(tmp_path, MoodMethod(shown=(("user:1", "item:4"),))).write(tmp_path / "ask.jsonl")
    assert not (tmp_path / "ask.jsonl").exists()


def test_a_file_or_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"there is no file of results `.*none\.jsonl`; fetch it"):
        new_batch(tmp_path).read(tmp_path / "none.jsonl")
    with pytest.raises(WriteError, match=r"cannot write `.*ask\.jsonl`: there is no folder `.*none`; make it"):
        new_batch(tmp_path).write(tmp_path / "none" / "ask.jsonl")


def test_a_full_disk_is_one_line_and_leaves_the_file_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ask.jsonl").write_text("the last one", encoding="utf-8")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match=r"cannot write `.*ask\.jsonl`: No space left on device"):
        new_batch(tmp_path).write(tmp_path / "ask.jsonl")
    assert [path.name for path in tmp_path.glob("*ask*")] == ["ask.jsonl"]
    assert (tmp_path / "ask.jsonl").read_text(encoding="utf-8") == "the last one"


def test_what_the_form_of_a_request_was_refused_for_says_what_to_set(tmp_path: Path) -> None:
    batch = new_batch(tmp_path)
    batch.write(tmp_path / "ask.jsonl")
    said = {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."}
    lines = [
        json.dumps({"custom_id": one["custom_id"], "response": {"status_code": 400, "body": {"error": said}}})
        for one in requests(tmp_path / "ask.jsonl")
    ]
    ((why, count),) = read(batch, tmp_path, *lines).failed.items()
    assert count == len(ITEMS)
    assert why == f"{said['message']}; write the batch again with --llm 'concede=[\"max_completion_tokens\"]'"
    config = OpenAIAPI.Config("http://batch.example/v1", "m", concede=("max_completion_tokens",))
    again = Batch(MoodMethod(), toy_graph(), OpenAIAPI(config, "key"), tmp_path / "ledger")
    assert again.write(tmp_path / "ask.jsonl").open == len(ITEMS)
    assert "max_completion_tokens" in requests(tmp_path / "ask.jsonl")[0]["body"]


@pytest.mark.parametrize("line", ["{", "[]", '{"id": 1}', "\ud800"])
def test_a_file_that_holds_no_results_stores_nothing(tmp_path: Path, line: str) -> None:
    batch = new_batch(tmp_path)
    batch.write(tmp_path / "ask.jsonl")
    good = result(requests(tmp_path / "ask.jsonl")[0], moods("dark"))
    (tmp_path / "results.jsonl").write_bytes(f"{good}\n{line}\n".encode("utf-8", "replace"))
    with pytest.raises(FileFormatError, match=r"results\.jsonl`, line 2, is .* expected a result of a batch"):
        batch.read(tmp_path / "results.jsonl")
    with Ledger(tmp_path / "ledger") as ledger:
        assert [ledger.paid(run.run) for run in ledger.runs()] == [(0, 0, 0)]


def test_a_batch_holds_only_what_the_rest_of_the_budget_surely_pays(tmp_path: Path) -> None:
    limits = {"budget_tokens": 300, "max_tokens": 20}
    first = new_batch(tmp_path, **limits).write(tmp_path / "ask.jsonl")
    asked = requests(tmp_path / "ask.jsonl")
    assert (first.open, first.left_out, len(asked)) == (len(ITEMS), len(ITEMS) - 2, 2)
    assert re.fullmatch(
        r"the budget of 300 tokens is spent: 0 are paid to `m@batch\.example/v1` by this ledger, up to 2\d\d for those "
        r"before it in the file, and the next request needs up to 1\d\d; .* raise `budget_tokens` and run again .*",
        first.why,
    )
    read(new_batch(tmp_path, **limits), tmp_path, *(result(one, moods("dark")) for one in asked))
    again = new_batch(tmp_path, **limits).write(tmp_path / "ask.jsonl")
    assert (again.open, again.left_out) == (len(ITEMS) - 2, len(ITEMS) - 4), "30 are paid"
    none = new_batch(tmp_path, **limits | {"budget_tokens": 30}).write(tmp_path / "ask.jsonl")
    assert (none.step, none.open, none.left_out) == ("mood", len(ITEMS) - 2, len(ITEMS) - 2)
    assert requests(tmp_path / "ask.jsonl") == []
