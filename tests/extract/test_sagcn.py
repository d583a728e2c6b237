"""Aspects are found in train reviews, merged, and become one user-item graph each."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from db.memory_store import MemoryStore
from extract.engine import EngineConfig, Extraction
from extract.method import Unit
from extract.methods.sagcn import SAGCN
from extract.provider import Request
from extract.providers.replay import Replay
from extract.reviews import ReviewFile
from extract.steps import extract_steps
from kg.check import check
from kg.config import build_config
from kg.errors import ConfigError, FileFormatError
from kg.graph import concat
from kg.source import Source
from kg.split import SplitConfig, split
from tests.extract.asking import scripted
from tests.shared_data import shared
from tests.toy import toy_graph

_REVIEWS = Path(__file__).parent.parent / "toy_reviews.csv"
_MERGED = {"groups": [{"aspect": "Price", "numbers": [1, 3]}, {"aspect": "sound", "numbers": [2, 2, 9]}]}


def answer(request: Request) -> str:
    (field,) = request.schema["properties"]
    if field == "groups":
        return json.dumps(_MERGED)
    if "reviews" in request.system and "<reviews>" in request.prompt:
        return json.dumps({"aspects": ["Price", "value", "Sound"]})
    return json.dumps({"aspects": ["price", "price", "sound"] if "cheap" in request.prompt else ["knobs"]})


def run(path: Path, **config: Any) -> tuple[Extraction, list[Request]]:
    provider = scripted(answer)
    method = SAGCN(SAGCN.Config(reviews=_REVIEWS, **config))
    return extract_steps(method, toy_graph(), provider, path / "ledger"), provider.requests


def test_each_aspect_is_a_user_item_graph_of_train_reviews(tmp_path: Path) -> None:
    result, _ = run(tmp_path)
    edges = [(t["head"], t["relation"], t["tail"]) for t in result.graph.triples.to_pylist()]
    assert sorted(edges) == [("user:1", "aspect/price", "item:1"), ("user:1", "aspect/sound", "item:1")]
    assert result.graph.ids_of("Aspect") == []
    assert check(concat(toy_graph(), result.graph)).is_clean
    shown = {(p["user_id"], p["item_id"]) for s in result.graph.sources.to_pylist() for p in s["shown"]}
    assert shown == {("user:1", "item:1")}


def test_no_review_of_valid_or_test_is_read(tmp_path: Path) -> None:
    _, requests = run(tmp_path)
    assert not any("must not be shown" in r.prompt or "Nobody" in r.prompt for r in requests)
    assert sum("Good sound, fair price." in r.prompt for r in requests) == 2


def test_names_are_merged_before_reviews_are_labelled(tmp_path: Path) -> None:
    result, requests = run(tmp_path)
    labels = [r for r in requests if "<review>" in r.prompt]
    assert {tuple(r.schema["properties"]["aspects"]["items"]["enum"]) for r in labels} == {("price", "sound", "none")}
    assert {k: r.count for k, r in result.summary.rejects.items()} == {
        "unknown_aspect": 3, "duplicate": 2, "not_in_train": 2, "empty": 1, "unknown_number": 1, "unknown_user": 1,
    }  # fmt: skip


def test_names_that_the_merge_leaves_out_are_no_aspects(tmp_path: Path) -> None:
    method = SAGCN(SAGCN.Config(reviews=_REVIEWS, n_names=2))
    merge = {"groups": [{"aspect": "cost", "numbers": [1]}]}
    provider = scripted(lambda r: json.dumps(merge) if "groups" in r.schema["properties"] else answer(r))
    result = extract_steps(method, toy_graph(), provider, tmp_path / "ledger")
    labels = next(r for r in provider.requests if "<review>" in r.prompt)
    assert labels.schema["properties"]["aspects"]["items"]["enum"] == ["cost", "none"]
    assert result.summary.rejects["left_out"].examples == ("sound",)
    assert result.summary.rejects["rare_aspect"].examples == ("value",)


def test_what_is_too_rare_is_counted(tmp_path: Path) -> None:
    result, _ = run(tmp_path, n_aspects=1)
    assert set(result.graph.triples["relation"].to_pylist()) == {"aspect/price"}
    assert result.summary.rejects["rare_aspect"].examples == ("sound",)


def test_a_published_list_of_aspects_leaves_out_the_first_two_steps(tmp_path: Path) -> None:
    result, requests = run(tmp_path, aspects=("price", "ease of use"))
    assert len(requests) == result.summary.total == 4
    assert set(result.graph.triples["relation"].to_pylist()) == {"aspect/price"}


def test_none_has_to_be_said_and_is_no_aspect(tmp_path: Path) -> None:
    method = SAGCN(SAGCN.Config(reviews=_REVIEWS, aspects=("price",)))
    provider = scripted(lambda _: json.dumps({"aspects": ["none"]}))
    result = extract_steps(method, toy_graph(), provider, tmp_path / "ledger")
    assert provider.requests[0].schema["properties"]["aspects"]["minItems"] == 1
    assert result.summary.empty == result.summary.total == 4
    assert set(result.summary.rejects) == {"not_in_train", "empty", "unknown_user"}  # rows of the file, not replies


def test_words_of_the_question_are_no_aspects() -> None:
    method = SAGCN(SAGCN.Config(reviews=_REVIEWS))
    said = ["aspects", "The judgement", "what is judged", "Aspect 1", "reviews", "value"]
    facts = method.facts(method.Reply.model_validate({"aspects": said}), Unit("item:1", {}), toy_graph())
    assert [(r.reason, r.what) for r in facts.rejected] == [("repeats_prompt", name) for name in said[:4]]
    merge = method.then(toy_graph())
    groups = [{"aspect": "group 1", "numbers": [1]}, {"aspect": "sound", "numbers": [2]}]
    facts = merge.facts(
        merge.Reply.model_validate({"groups": groups}), Unit("aspects", {"names": ["tone", "noise"]}), toy_graph()
    )
    assert [(r.reason, r.what) for r in facts.rejected] == [("repeats_prompt", "group 1"), ("left_out", "tone")]


def test_an_aspect_of_several_words_is_one_relation() -> None:
    method = SAGCN(SAGCN.Config(reviews=_REVIEWS, aspects=("ease-of-use",))).then(toy_graph())
    unit = Unit("user:1|item:1", {}, (("user:1", "item:1"),))
    facts = method.facts(method.Reply.model_validate({"aspects": ["Ease of use"]}), unit, toy_graph())
    assert [t["relation"] for t in facts.rows["triples"]] == ["aspect/ease_of_use"]


def test_recorded_answers_become_a_graph_that_a_store_gives_back(tmp_path: Path) -> None:
    said: dict[str, object] = {"item:1": ["price"], "item:2": ["sound", "price"], "aspects": None}
    said |= {"user:1|item:1": ["price"], "user:1|item:2": ["sound", "price"], "user:2|item:2": [], "user:3|item:1": []}
    lines = [
        {"unit": u, "text": json.dumps({"groups": []} if names is None else {"aspects": names})}
        for u, names in said.items()
    ]
    file = tmp_path / "answers.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    method = SAGCN(SAGCN.Config(reviews=_REVIEWS))
    result = extract_steps(method, toy_graph(), Replay(Replay.Config(file)), tmp_path / "ledger")
    assert Counter(result.graph.triples["relation"].to_pylist()) == {"aspect/price": 2, "aspect/sound": 1}
    whole = concat(toy_graph(), result.graph)
    store = MemoryStore()
    store.write(whole)
    assert store.read().equals(whole)


@pytest.mark.slow
def test_real_reviews_are_read_and_only_train_ones_are_asked_about(tmp_path: Path) -> None:
    source = Source.find("table")
    columns = {"user": "reviewerID", "item": "asin", "timestamp": "unixReviewTime"}
    path = shared("amazon-musical-instruments") / "reviews.csv.gz"
    graph = split(source(build_config(source.Config, columns)).read(path), SplitConfig(method="leave_last_out"))
    config = SAGCN.Config(reviews=path, user="reviewerID", item="asin", text="reviewText", n_items=5, aspects=("tone",))
    label = SAGCN(config).then(graph)
    units = list(label.units(graph))
    assert graph.counts()["interactions"] == 10_261
    assert len(graph.interactions_of("train")) - len(units) == 5  # train reviews without a word
    assert len(units) == 7_398
    provider = scripted(lambda _: json.dumps({"aspects": ["tone"]}))
    result = extract_steps(SAGCN(config), graph, provider, tmp_path / "ledger", EngineConfig(max_units=50))
    assert result.graph.counts()["triples"] == 50


def test_a_parquet_file_is_read_too(tmp_path: Path) -> None:
    rows = [{"u": "1", "i": "1", "t": "Nice"}, {"u": "1", "i": "1", "t": None}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "r.parquet")
    (review,), rejected = ReviewFile(tmp_path / "r.parquet", "u", "i", "t").of_train(toy_graph())
    assert rejected == []
    assert (review.user, review.item, review.text) == ("user:1", "item:1", "Nice")


def test_reviews_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there are no reviews at `.*none\.csv`"):
        ReviewFile(tmp_path / "none.csv", "u", "i", "t").of_train(toy_graph())
    (tmp_path / "bad.parquet").write_bytes(b"nonsense")
    with pytest.raises(FileFormatError, match=r"bad\.parquet` cannot be read"):
        ReviewFile(tmp_path / "bad.parquet", "u", "i", "t").of_train(toy_graph())
    with pytest.raises(FileFormatError, match="has no column `txt`; did you mean `text`"):
        ReviewFile(_REVIEWS, "user_id", "item_id", "txt").of_train(toy_graph())


def test_a_row_that_is_no_train_review_is_counted_with_its_reason(tmp_path: Path) -> None:
    rows = ["user_id,item_id,text", "1,1,Sturdy.", "7,1,Who?", "1,9,What?", "1,4,In test.", "1,2, "]
    file = tmp_path / "r.csv"
    file.write_text("\n".join(rows), "utf-8")
    method = SAGCN(SAGCN.Config(reviews=file, aspects=("price",)))
    result = extract_steps(method, toy_graph(), scripted(answer), tmp_path / "ledger")
    assert {k: r.examples for k, r in result.summary.rejects.items()} == {
        "unknown_user": ("user:7, item:1",), "unknown_item": ("user:1, item:9",),
        "not_in_train": ("user:1, item:4",), "empty": ("user:1, item:2",), "unknown_aspect": ("knobs",),
    }  # fmt: skip


def test_reviews_of_another_data_set_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "r.csv"
    file.write_text("user_id,item_id,text\nA1,B1,Nice\n1,B2,Nice\n", "utf-8")
    said = r"none of the 2 rows of `.*r\.csv` is of a train interaction \(unknown_user 1, unknown_item 1\); the"
    with pytest.raises(FileFormatError, match=said + r" first is of `user:A1, item:B1`.*`user` and `item`"):
        extract_steps(SAGCN(SAGCN.Config(reviews=file)), toy_graph(), scripted(answer), tmp_path / "ledger")


@pytest.mark.parametrize(("name", "value"), [("n_items", 0), ("n_aspects", 31)])
def test_a_value_out_of_range_is_refused(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"`{name}` is {value}; expected a value from"):
        SAGCN.Config(reviews=_REVIEWS, **{name: value})


def test_aspects_that_are_equal_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"`aspects` holds \['price', 'Price'\], which are empty or equal"):
        SAGCN.Config(reviews=_REVIEWS, aspects=("price", "Price", "fit"))
