"""Entities that fusion merged become two again, some or all, and later facts stay."""

import pytest

from kg.errors import SchemaError, UnknownNameError
from kg.fuse import FuseConfig, find_resolution, fuse
from kg.graph import Graph, concat
from kg.resolve import Resolution
from kg.unmerge import unmerge
from tests.toy import toy_graph

_NAMES = {"mood:Dark!": "Dark!", "mood:DARK": "DARK", "mood:the-dark": "The dark"}


def fragment() -> Graph:
    """Three more spellings of the mood `dark`, each with a fact."""
    item = next(e for e in toy_graph().entities.to_pylist() if e["entity_id"] == "item:1")
    moods = [{"entity_id": i, "type": "Mood", "name": name} for i, name in _NAMES.items()]
    triples = [{"head": "item:1", "relation": "has_mood", "tail": i, "confidence": 0.5, "source": "s"} for i in _NAMES]
    return Graph.from_rows(entities=[item, *moods], triples=triples, sources=[{"source": "s", "kind": "rule"}])


def merged() -> Resolution:
    return find_resolution(toy_graph(), fragment())


def test_all_merges_are_undone_and_the_entities_have_their_facts_again() -> None:
    fused, report = fuse(toy_graph(), fragment())
    assert len(report.merged) == 3
    apart, left = unmerge(fused, toy_graph(), fragment(), merged=merged())
    assert len(left.decisions) == 0
    assert apart.equals(fuse(toy_graph(), fragment(), config=FuseConfig(is_resolving=False))[0])


def test_one_merge_is_undone_and_the_others_hold() -> None:
    fused, report = fuse(toy_graph(), fragment())
    gone = report.merged[0]["entity_id"]
    apart, left = unmerge(fused, toy_graph(), fragment(), merged=merged(), entities=[gone])
    assert len(left.decisions) == 2
    assert gone in apart.names()
    assert not set(left.decisions["entity_id"].to_pylist()) & set(apart.names())
    again, nothing = unmerge(apart, toy_graph(), fragment(), merged=left)
    assert len(nothing.decisions) == 0
    assert again.equals(fuse(toy_graph(), fragment(), config=FuseConfig(is_resolving=False))[0])


def test_what_was_written_to_the_fused_graph_since_stays() -> None:
    fused, _ = fuse(toy_graph(), fragment())
    ends = [e for e in fused.entities.to_pylist() if e["entity_id"] in ("item:2", "genre:drama")]
    fact = {"head": "item:2", "relation": "has_genre", "tail": "genre:drama", "confidence": 1.0, "source": "later"}
    later = Graph.from_rows(entities=ends, triples=[fact], sources=[{"source": "later", "kind": "rule"}])
    apart, _ = unmerge(concat(fused, later), toy_graph(), fragment(), merged=merged())
    assert ("item:2", "later") in {(t["head"], t["source"]) for t in apart.triples.to_pylist()}


def test_an_entity_that_was_not_merged_is_named() -> None:
    fused, _ = fuse(toy_graph(), fragment())
    with pytest.raises(UnknownNameError, match="`mood:dank` was not merged into another entity; did"):
        unmerge(fused, toy_graph(), fragment(), merged=merged(), entities=["mood:dank"])


def test_another_fragment_than_was_fused_is_refused() -> None:
    fused, _ = fuse(toy_graph())
    with pytest.raises(SchemaError, match=r"[1-9] rows that fusing these graphs gives are not in the fused graph"):
        unmerge(fused, toy_graph(), fragment(), merged=merged())


def test_a_fragment_that_is_forgotten_is_missed() -> None:
    fused, report = fuse(toy_graph(), fragment())
    with pytest.raises(SchemaError, match="none of these graphs has `mood:.*; give the base and all fragments"):
        unmerge(fused, toy_graph(), merged=merged())
    other = Graph.from_rows(entities=[{"entity_id": "mood:new", "type": "Mood", "name": "new"}])
    fused, report = fuse(toy_graph(), fragment(), other)
    with pytest.raises(SchemaError, match="these are not the graphs that were fused; give the base and all fragments"):
        unmerge(fused, toy_graph(), fragment(), merged=merged(), n_rows=report.before)
    assert len(unmerge(fused, toy_graph(), fragment(), other, merged=merged(), n_rows=report.before)[1].decisions) == 0


def test_the_dry_run_is_what_fusion_does_where_weak_facts_are_dropped() -> None:
    config = FuseConfig(min_confidence=0.9)
    _, report = fuse(toy_graph(), fragment(), config=config)
    assert find_resolution(toy_graph(), fragment(), config=config).decisions.to_pylist() == report.merged
