"""Hostile words in items, reviews and replies change no schema, no other question, no relation and no query."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from db.ladybug_store import LadybugStore
from extract.method import Method
from extract.provider import Request
from extract.steps import extract_steps
from kg.config import build_config
from kg.graph import Graph, concat
from tests.extract.asking import scripted
from tests.extract.injections import HOSTILE
from tests.toy import ITEMS, USERS, toy_graph

_SMALL = {"llmhg": {"min_interactions": 2}, "llmrg": {"min_interactions": 2, "n_rounds": 1, "min_similarity": 0.3}}
_WORDS = tuple(text.encode("utf-8", "replace").decode() for text in HOSTILE)
_GROUPS = [_WORDS[start : start + len(ITEMS)] for start in range(0, len(_WORDS), len(ITEMS))]


class Outcome(NamedTuple):
    """What was asked, and what came of it."""

    requests: list[Request]
    graph: Graph


def ask(folder: Path, name: str, words: tuple[str, ...]) -> Outcome:
    """Run a method where every item, review and reply says one of some words."""
    folder.mkdir(parents=True)
    named = dict(zip(ITEMS, words, strict=False))
    rows = [
        {**e, "name": named.get(e["entity_id"], e["name"]), "text": named.get(e["entity_id"], e["text"])}
        for e in toy_graph().entities.to_pylist()
    ]
    graph = toy_graph().replace(entities=Graph.from_rows(entities=rows).entities)
    reviews = folder / "reviews.csv"
    with reviews.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("user_id", "item_id", "text"))
        writer.writerows((u[5:], i[5:], words[(n + k) % len(words)]) for n, u in enumerate(USERS) for k, i in pairs(u))
    values = {"reviews": str(reviews)} if name == "sagcn" else _SMALL.get(name, {})
    method = Method.find(name)
    provider = scripted(lambda request: answer(request, words))
    result = extract_steps(method(build_config(method.Config, values)), graph, provider, folder / "ledger")
    assert result.summary.total == result.summary.done + result.summary.empty + result.summary.rejected
    return Outcome(provider.requests, concat(graph, result.graph))


def pairs(user: str) -> Iterator[tuple[int, str]]:
    """Yield place and id of a user's items."""
    rows = toy_graph().interactions.to_pylist()
    yield from enumerate(row["item_id"] for row in rows if row["user_id"] == user)


def answer(request: Request, words: tuple[str, ...]) -> str:
    """Give a reply of the right form in which hostile words stand wherever words may stand."""
    text = words[len(request.prompt) % len(words)]
    short = text[:28] or "x"
    good: dict[str, Any] = {
        "chains": [{"items": [1, 2], "reason": text[:120]}],
        "title": text[:80],
        "score": 80,
        "titles": [text[:80], "3"],
        "angles": [{"angle": short, "categories": [{"category": short, "items": [1, 2]}]}],
        "entities": [short, "case"],
        "reason": text[:160],
        "kind": "both",
        "groups": [{"aspect": short, "numbers": [1]}],
    }
    return json.dumps({name: good.get(name, [short]) for name in request.schema["properties"]})


def form(request: Request) -> tuple[str, tuple[str, ...], str]:
    """Return what no word of an item or a reply may change; SAGCN's labels are the aspects that replies named."""
    schema = re.sub(r'"enum": \[[^]]*"none"\]', '"enum": []', json.dumps(request.schema, sort_keys=True))
    return request.system, tuple(re.findall(r"</?\w+>|[<>]", request.prompt)), re.sub(r'"maxItems": \d+', "", schema)


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    names = ("Heat", "Alien", "Big", "Solaris", "Brazil", "Up", "Ran", "Tron")
    folder = tmp_path_factory.mktemp("harmless")
    return {name: ask(folder / name, name, names) for name in Method.members()}


@pytest.mark.slow
@pytest.mark.parametrize("name", Method.members())
def test_no_step_lets_hostile_words_out_of_their_place(harmless: dict[str, Outcome], tmp_path: Path, name: str) -> None:
    expected = harmless[name]
    forms = {form(request) for request in expected.requests}
    relations = {r for r in expected.graph.triples["relation"].to_pylist() if not r.startswith("aspect/")}
    for place, words in enumerate(_GROUPS):
        found = ask(tmp_path / str(place), name, words)
        assert {form(request) for request in found.requests} <= forms
        assert not any(re.search(r"[\u202e\u200b\u2066\x00\x1b]", request.prompt) for request in found.requests)
        assert set(found.graph.entities["type"].to_pylist()) <= set(expected.graph.entities["type"].to_pylist())
        assert found.graph.ids_of("Item") == expected.graph.ids_of("Item")
        said = set(found.graph.triples["relation"].to_pylist())
        assert {r for r in said if not re.fullmatch(r"aspect/\w+", r)} <= relations
        store = LadybugStore(LadybugStore.Config(path=tmp_path / f"{place}.lbug"))
        store.write(found.graph)
        assert store.read().equals(found.graph.canonical())
