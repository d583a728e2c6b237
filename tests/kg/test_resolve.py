import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kg.errors import ConfigError, FileFormatError
from kg.fuse import FuseConfig, find_resolution, fuse
from kg.graph import Graph
from kg.resolve import Resolution, ResolveConfig, cluster, normalise, resolve


def entities(*named: tuple[str, str, str], facts: list[dict[str, Any]] | None = None) -> Graph:
    rows = [{"entity_id": i, "type": t, "name": n} for i, t, n in named]
    sources = [{"source": "d", "kind": "dataset"}, {"source": "l", "kind": "llm"}]
    return Graph.from_rows(entities=rows, triples=facts or [], sources=sources)


def fact(head: str, tail: str, source: str) -> dict[str, Any]:
    return {"head": head, "relation": "r", "tail": tail, "confidence": 1.0, "source": source}


def merged(resolution: Resolution) -> dict[str, str]:
    return {row["entity_id"]: row["canonical_id"] for row in resolution.decisions.to_pylist()}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Sci-Fi", "sci fi"),
        ("Matrix, The", "the matrix"),
        ("J.R.R. Tolkien", "JRR TOLKIEN"),
        ("Ocean\u2019s  Eleven", "oceans eleven"),
        ("Straße", "STRASSE"),
        ("\uff26ilm\u00a0Noir", "film noir"),
        ("Airplane!", "airplane"),
        ("rock_and_roll", "Rock and Roll"),
    ],
)
def test_spellings_of_one_thing_agree(one: str, other: str) -> None:
    assert normalise(one) == normalise(other) != ""


@pytest.mark.parametrize(
    ("one", "other"), [("C", "C++"), ("C", "C#"), ("3.5", "35"), ("The", "An"), ("Amélie", "Amelie"), ("?", "!")]
)
def test_different_things_stay_different(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


@given(st.text())
def test_no_name_is_normalised_to_nothing(name: str) -> None:
    assert normalise(name) or not name.strip()


def test_namesakes_of_one_type_merge_and_others_do_not() -> None:
    graph = entities(
        ("p1", "Person", "Anna"), ("p2", "Person", "anna"), ("c1", "City", "Anna"), ("p3", "Person", "Anna B"),
        ("u1", "User", "Anna"), ("u2", "User", "Anna"), ("i1", "Item", "Anna"), ("i2", "Item", "Anna"),
    )  # fmt: skip
    resolution = resolve(graph)
    assert resolution.decisions.to_pylist() == [
        {"entity_id": "p2", "canonical_id": "p1", "reason": "same name `anna` of type `Person`"}
    ]


def test_the_entity_that_a_data_set_states_stays() -> None:
    named = [("a", "T", "x"), ("b", "T", "X"), ("c", "T", "the x"), ("o", "T", "other")]
    assert merged(resolve(entities(*named))) == {"b": "a", "c": "a"}
    by_data = entities(*named, facts=[fact("o", "c", "d"), fact("o", "a", "l")])
    assert merged(resolve(by_data)) == {"a": "c", "b": "c"}


def test_namesakes_that_a_data_set_tells_apart_stay_apart() -> None:
    named = [("a", "T", "x"), ("b", "T", "X"), ("c", "T", "the x"), ("o", "T", "other")]
    resolution = resolve(entities(*named, facts=[fact("o", "a", "d"), fact("b", "o", "d"), fact("o", "c", "l")]))
    assert merged(resolution) == {}
    assert resolution.ambiguous == (("a", "b", "c"),)


@given(st.permutations([("a", "b", "1"), ("b", "c", "2"), ("d", "c", "3"), ("x", "y", "4")]))
def test_chains_close_whatever_the_order_of_pairs(pairs: list[tuple[str, str, str]]) -> None:
    graph = entities(*((i, "T", i) for i in "abcdxy"))
    resolution = cluster(graph, pairs, ResolveConfig())
    assert merged(resolution) == {"b": "a", "c": "a", "d": "a", "y": "x"}
    assert [r["reason"] for r in resolution.decisions.to_pylist()] == ["1", "2", "3", "4"]


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=15))
@settings(deadline=None)
def test_groups_are_those_of_a_slow_closure(links: list[tuple[int, int]]) -> None:
    names = {n: f"e{n:02}" for n in range(13)}
    pairs = [(names[a], names[b], "linked") for a, b in links if a != b]
    groups = {name: {name} for name in names.values()}
    for _, (one, other, _) in itertools.product(range(13), pairs):
        groups[one] = groups[other] = groups[one] | groups[other]
        for name in groups[one]:
            groups[name] = groups[one]
    expected = {name: min(group) for name, group in groups.items() if min(group) != name}
    graph = entities(*((name, "T", name) for name in names.values()))
    assert merged(cluster(graph, pairs, ResolveConfig(max_cluster=13))) == expected


def test_a_group_beyond_the_cap_is_reported_and_left_alone() -> None:
    graph = entities(*((f"e{n}", "T", "same") for n in range(4)), ("f1", "T", "two"), ("f2", "T", "Two"))
    resolution = resolve(graph, ResolveConfig(max_cluster=3))
    assert resolution.too_large == (("e0", "e1", "e2", "e3"),)
    assert merged(resolution) == {"f2": "f1"}
    assert len(merged(resolve(graph, ResolveConfig(max_cluster=4)))) == 4


def test_resolving_is_a_dry_run_until_it_rewrites() -> None:
    graph = entities(("a", "T", "x"), ("b", "T", "X"), ("o", "T", "o"), facts=[fact("o", "b", "l")])
    resolution = resolve(graph)
    assert graph.triples["tail"].to_pylist() == ["b"]
    assert resolution.rewrite("triples", graph.triples)["tail"].to_pylist() == ["a"]
    assert resolution.rewrite("sources", graph.sources).equals(graph.sources)


def test_a_cap_below_two_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_cluster is 1; expected at least 2"):
        ResolveConfig(max_cluster=1)


def test_decisions_are_stored_read_back_and_applied(tmp_path: Path) -> None:
    graph = entities(("a", "T", "x"), ("b", "T", "X"), ("o", "T", "o"), facts=[fact("o", "b", "l")])
    resolution = resolve(graph, ResolveConfig(max_cluster=2))
    resolution.write(tmp_path / "decisions.json")
    assert Resolution.read(tmp_path / "decisions.json") == resolution
    fused, report = fuse(graph, config=FuseConfig(decisions=tmp_path / "decisions.json"))
    assert fused.triples["tail"].to_pylist() == ["a"]
    assert report.merged == resolution.decisions.to_pylist()


def test_edited_decisions_are_what_is_applied(tmp_path: Path) -> None:
    graph = entities(("a", "T", "x"), ("b", "T", "X"), ("c", "T", "other"), facts=[fact("a", "c", "l")])
    resolution = find_resolution(graph)
    resolution.write(tmp_path / "found.json")
    edited = (tmp_path / "found.json").read_text("utf-8").replace('"b"', '"c"')
    (tmp_path / "edited.json").write_text(edited, "utf-8")
    fused, report = fuse(graph, config=FuseConfig(decisions=tmp_path / "edited.json"))
    assert set(fused.entities["entity_id"].to_pylist()) == {"a", "b"}
    assert [d["reason"] for d in report.dropped] == ["self_loop"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "holds no decisions"),
        ('{"decisions": []}', "holds no decisions: 'too_large'"),
        ('{"decisions": [["b", "a"], ["b", "c"]]}', r"goes twice, or goes and stays"),
        ('{"decisions": [["b", "a"], ["a", "c"]]}', r"goes twice, or goes and stays"),
        ('{"decisions": [["b", null]]}', r"goes twice, or goes and stays"),
    ],
)
def test_decisions_that_contradict_each_other_are_refused(tmp_path: Path, text: str, message: str) -> None:
    if "[[" in text:
        pairs = json.loads(text)["decisions"]
        rows = [{"entity_id": i, "canonical_id": stays, "reason": ""} for i, stays in pairs]
        text = json.dumps({"decisions": rows, "too_large": [], "ambiguous": []})
    (tmp_path / "d.json").write_text(text, "utf-8")
    with pytest.raises(FileFormatError, match=message):
        Resolution.read(tmp_path / "d.json")


def test_looking_for_decisions_changes_nothing() -> None:
    graph = entities(("a", "T", "dark comedy"), ("b", "T", "dark comedyy"), facts=[fact("b", "a", "l")])
    assert merged(find_resolution(graph)) == {}
    resolution = find_resolution(graph, config=FuseConfig(min_name_similarity=0.7))
    assert merged(resolution) == {"b": "a"}
    assert graph.counts()["entities"] == 2
