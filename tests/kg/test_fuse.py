import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kg.ckg import CollaborativeKG
from kg.errors import ConfigError, DuplicateIdError, LeakError, SchemaError
from kg.fuse import FuseConfig, FusionReport, direct_merge, fuse
from kg.graph import Graph
from tests.toy import toy_graph


def source(name: str, kind: str = "llm", **more: Any) -> dict[str, Any]:
    return {"source": name, "kind": kind, "reply_sha": name, **more}


def fragment(*triples: tuple[str, str, str, float], by: str = "llm:c", **tables: list[dict[str, Any]]) -> Graph:
    named = {i for head, _, tail, _ in triples for i in (head, tail)}
    named |= {row["entity_id"] for name in ("members", "texts", "features") for row in tables.get(name, [])}
    named -= {row["entity_id"] for row in tables.get("entities", [])}
    named -= {row["hyperedge_id"] for row in tables.get("hyperedges", [])}
    rows = [{"entity_id": i, "type": i.partition(":")[0].title(), "name": i.partition(":")[2]} for i in sorted(named)]
    facts = [dict(zip(("head", "relation", "tail", "confidence"), t, strict=True)) | {"source": by} for t in triples]
    return Graph.from_rows(
        **{"sources": [source(by)], **tables, "entities": rows + tables.get("entities", []), "triples": facts},
    )


def facts(graph: Graph) -> set[tuple[Any, ...]]:
    return {tuple(row.values()) for row in graph.triples.to_pylist()}


def dropped(report: FusionReport) -> dict[str, int]:
    counted: dict[str, int] = report.to_dict()["dropped_by_reason"]
    return counted


MOOD = ("item:5", "has_mood", "mood:dark", 0.9)


def test_a_fact_of_two_sources_is_two_rows_and_of_one_source_one_row_with_the_higher_confidence() -> None:
    weak = ("item:5", "has_mood", "mood:dark", 0.2)
    fused, report = fuse(toy_graph(), fragment(MOOD), fragment(weak), fragment(weak, by="llm:d"))
    new = facts(fused) - facts(toy_graph())
    assert new == {(*MOOD, "llm:c"), (*weak, "llm:d")}
    assert report.duplicates["triples"] == 1
    edge = CollaborativeKG.from_graph(fused)
    place = [edge.nodes[h] + edge.nodes[t] for h, _, t in edge.triples].index("item:5mood:dark")
    assert edge.confidence[place] == pytest.approx(1 - 0.4 * 0.1 * 0.8)


def test_entities_merge_facts_follow_and_the_report_says_why() -> None:
    other = fragment(("item:6", "has_mood", "mood:The Dark", 0.7), ("mood:The Dark", "near", "mood:DARK", 1.0))
    fused, report = fuse(toy_graph(), other)
    assert ("item:6", "has_mood", "mood:DARK", 0.7, "llm:c") in facts(fused)
    assert report.merged == [
        {"entity_id": "mood:The Dark", "canonical_id": "mood:DARK", "reason": "same name `dark` of type `Mood`"},
        {"entity_id": "mood:dark", "canonical_id": "mood:DARK", "reason": "same name `dark` of type `Mood`"},
    ]
    assert dropped(report) == {"self_loop": 1}
    assert report.base["triples"] == 12
    assert report.before["triples"] == 14
    assert report.after["triples"] == len(fused.triples) == 13
    json.dumps(report.to_dict())


def test_without_resolving_ids_stay() -> None:
    other = fragment(("item:6", "has_mood", "mood:DARK", 0.7))
    fused, report = fuse(toy_graph(), other, config=FuseConfig(is_resolving=False))
    assert {"mood:DARK", "mood:dark"} <= set(fused.entities["entity_id"].to_pylist())
    assert report.merged == []


def test_a_group_beyond_the_cap_is_reported_and_left_alone() -> None:
    other = fragment(*(("item:6", "has_mood", f"mood:{name}", 0.7) for name in ("DARK", "Dark", "The dark")))
    _, report = fuse(toy_graph(), other, config=FuseConfig(max_cluster=3))
    assert report.merged == []
    assert report.too_large == [["mood:DARK", "mood:Dark", "mood:The dark", "mood:dark"]]


def test_weak_triples_are_dropped_kept_in_the_report_and_counted() -> None:
    fused, report = fuse(toy_graph(), config=FuseConfig(min_confidence=0.6))
    assert facts(toy_graph()) - facts(fused) == {("item:7", "has_mood", "mood:dark", 0.5, "llm:bbbb")}
    assert dropped(report) == {"low_confidence": 1}
    assert report.dropped[0]["row"]["tail"] == "mood:dark"
    assert report.dropped[0]["table"] == "triples"


def test_conflicts_under_functional_relations_are_kept_and_reported() -> None:
    other = fragment(("item:5", "directed_by", "person:bela", 0.4), ("item:7", "directed_by", "person:anna", 0.4))
    fused, report = fuse(toy_graph(), other, config=FuseConfig(functional=("directed_by",)))
    assert report.conflicts == [
        {"kind": "functional", "head": "item:5", "relation": "directed_by", "values": ["person:anna", "person:bela"]}
    ]
    assert facts(toy_graph()) < facts(fused)


def test_namesakes_of_the_data_set_are_reported_and_not_merged() -> None:
    base = fragment(
        ("item:1", "acted_by", "person:a1", 1.0),
        ("item:2", "acted_by", "person:a2", 1.0),
        by="dataset:x",
        sources=[source("dataset:x", "dataset")],
        entities=[{"entity_id": f"person:a{n}", "type": "Person", "name": "Anna"} for n in (1, 2)],
    )
    fused, report = fuse(base, fragment(("item:1", "acted_by", "person:anna", 0.5)))
    ids = ["person:a1", "person:a2", "person:anna"]
    assert report.conflicts == [{"kind": "namesakes", "head": "person:a1", "relation": None, "values": ids}]
    assert set(ids) <= set(fused.entities["entity_id"].to_pylist())


def test_under_one_id_the_base_wins_and_the_other_is_reported() -> None:
    other = fragment(MOOD, entities=[{"entity_id": "mood:dark", "type": "Colour", "name": "black"}])
    fused, report = fuse(toy_graph(), other)
    assert fused.entities.sort_by("entity_id").equals(toy_graph().canonical().entities)
    assert report.conflicts == [
        {"kind": "entity", "head": "mood:dark", "relation": None, "values": ["Colour black", "Mood dark"]}
    ]


def test_texts_and_features_of_merged_entities_keep_one_row_of_each_key() -> None:
    base = fragment(("item:1", "has_mood", "mood:a", 1.0), by="dataset:x", sources=[source("dataset:x", "dataset")])

    def told(alias: str, vector: list[float]) -> Graph:
        return fragment(
            entities=[{"entity_id": alias, "type": "Mood", "name": "A"}],
            texts=[{"entity_id": alias, "kind": "note", "text": f"of {alias}", "source": "llm:c"}],
            features=[{"entity_id": alias, "kind": "v", "vector": vector}],
        )  # fmt: skip

    fused, report = fuse(base, told("mood:z", [1.0]), told("mood:a", [2.0]))
    assert fused.texts.to_pylist() == [{"entity_id": "mood:a", "kind": "note", "text": "of mood:a", "source": "llm:c"}]
    assert fused.features["vector"].to_pylist() == [[2.0]]
    assert report.duplicates["texts"] == report.duplicates["features"] == 1


def hyperedge(by: str, *members: str, weight: float = 1.0, relation: str = "interest") -> Graph:
    return fragment(
        by=by,
        hyperedges=[{"hyperedge_id": "h", "relation": relation, "weight": weight, "source": by}],
        members=[{"hyperedge_id": "h", "entity_id": m, "role": "item"} for m in members],
        texts=[{"entity_id": "h", "kind": "category", "text": by, "source": by}],
    )


def test_two_sources_of_one_hyperedge_id_stay_apart_with_their_members_and_texts() -> None:
    fused, _ = fuse(toy_graph(), hyperedge("llm:d", "item:1"), hyperedge("llm:c", "item:2", "item:3"))
    assert {"h", "h@llm:d"} <= set(fused.hyperedges["hyperedge_id"].to_pylist())
    members = {(m["hyperedge_id"], m["entity_id"]) for m in fused.members.to_pylist()}
    assert {("h", "item:2"), ("h", "item:3"), ("h@llm:d", "item:1")} <= members
    told = {t["entity_id"]: t["text"] for t in fused.texts.to_pylist()}
    assert (told["h"], told["h@llm:d"]) == ("llm:c", "llm:d")


def test_one_source_of_one_hyperedge_keeps_the_higher_weight() -> None:
    fused, _ = fuse(toy_graph(), hyperedge("llm:c", "item:1", weight=0.2), hyperedge("llm:c", "item:1", weight=0.4))
    assert [r["weight"] for r in fused.hyperedges.to_pylist() if r["hyperedge_id"] == "h"] == [0.4]


def test_contradicting_descriptions_of_one_source_or_hyperedge_are_refused() -> None:
    with pytest.raises(DuplicateIdError, match="different things about 1 sources: `llm:c`"):
        fuse(toy_graph(), fragment(MOOD), fragment(MOOD, sources=[source("llm:c", model="another")]))
    with pytest.raises(DuplicateIdError, match="different things about 1 hyperedges: `h`"):
        fuse(toy_graph(), hyperedge("llm:c", "item:1"), hyperedge("llm:c", "item:1", relation="taste"))


def test_only_the_base_brings_interactions() -> None:
    base, rows = toy_graph(), toy_graph().interactions.to_pylist()
    assert fuse(base, base)[0].equals(base)
    foreign = Graph.from_tables(
        entities=base.entities,
        interactions=pa.Table.from_pylist(
            [{**rows[0], "item_id": "item:8"}, {**rows[1], "split": "test"}, rows[2]], schema=base.interactions.schema
        ),
    )
    with pytest.raises(SchemaError, match="brings 2 interactions that the base does not have.*user:1 item:8"):
        fuse(base, foreign)


def test_a_fragment_that_saw_the_test_set_is_refused() -> None:
    shown = [{"user_id": "user:1", "item_id": "item:4"}]
    with pytest.raises(LeakError, match="shown_held_out: 1 .`user:1 - item:4`"):
        fuse(toy_graph(), fragment(MOOD, sources=[source("llm:c", shown=shown)]))


def test_interactions_come_out_untouched() -> None:
    fused, _ = fuse(toy_graph(), fragment(MOOD))
    assert fused.interactions.equals(toy_graph().canonical().interactions)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"min_confidence is 1.5; expected a number in \[0, 1\]"):
        FuseConfig(min_confidence=1.5)
    with pytest.raises(ConfigError, match="max_cluster is 0"):
        FuseConfig(max_cluster=0)


names = st.sampled_from(["Dark", "dark", "The Dark", "noir", "Noir!", "x"])
kinds = st.sampled_from(["Mood", "Theme"])
DARK, NOIR = ("Dark", "dark", "The Dark"), ("noir", "Noir!")
ONE_MEANING = {"e:0": DARK, "e:1": DARK, "e:2": NOIR, "e:3": NOIR, "e:4": DARK, "e:5": ("x",)}
ids = st.sampled_from([f"e:{n}" for n in range(6)])
confidences = st.sampled_from([0.0, 0.25, 0.5, 1.0])


@st.composite
def fragments(draw: st.DrawFn, *, one_meaning: bool = False) -> Graph:
    """Draw a fragment whose ids, names and sources collide with those of others; perhaps one id means two things."""
    entities = {i: {"entity_id": i, "type": draw(kinds), "name": draw(names)} for i in draw(st.sets(ids, min_size=2))}
    if one_meaning:
        entities = {
            i: {**row, "type": "Mood", "name": draw(st.sampled_from(ONE_MEANING[i]))} for i, row in entities.items()
        }
    known = st.sampled_from([*sorted(entities), "item:1", "item:2"])
    by = st.sampled_from(["llm:c", "llm:d", "dataset:toy"])
    triples = draw(st.lists(st.tuples(known, st.just("r"), known, by), unique=True, max_size=6))
    edge = draw(st.sampled_from(["h1", "h2"]))
    members = draw(st.sets(known, max_size=3))
    texts = draw(st.lists(st.tuples(known, by), unique=True, max_size=3))
    return Graph.from_rows(
        entities=[*entities.values(), *({"entity_id": f"item:{n}", "type": "Item", "name": str(n)} for n in (1, 2))],
        triples=[
            {"head": h, "relation": r, "tail": t, "confidence": draw(confidences), "source": s}
            for h, r, t, s in triples
        ],
        hyperedges=[{"hyperedge_id": edge, "relation": "i", "weight": draw(confidences), "source": draw(by)}],
        members=[{"hyperedge_id": edge, "entity_id": m, "role": "any"} for m in sorted(members)],
        texts=[{"entity_id": e, "kind": "note", "text": draw(names), "source": s} for e, s in texts],
        features=[{"entity_id": e, "kind": "v", "vector": [draw(confidences)]} for e in sorted(entities)],
        sources=[source("llm:c"), source("llm:d"), {"source": "dataset:toy", "kind": "dataset"}],
    )


configs = st.builds(
    FuseConfig, st.sampled_from([0.0, 0.5]), st.just(("r",)), st.booleans(), st.sampled_from([2, 3, 20])
)


@given(fragments(one_meaning=True), fragments(one_meaning=True), configs)
@settings(deadline=None, max_examples=40)
def test_fusing_again_changes_nothing(one: Graph, other: Graph, config: FuseConfig) -> None:
    once, _ = fuse(toy_graph(), one, other, config=config)
    assert fuse(once, config=config)[0].equals(once)
    assert fuse(once, other, config=config)[0].equals(once)
    assert fuse(once, one, other, config=config)[0].equals(once)


@given(fragments(), fragments(), fragments(), configs)
@settings(deadline=None, max_examples=40)
def test_the_order_of_fragments_does_not_matter(a: Graph, b: Graph, c: Graph, config: FuseConfig) -> None:
    first, report = fuse(toy_graph(), a, b, c, config=config)
    other, other_report = fuse(toy_graph(), c, a, b, config=config)
    assert first.equals(other)
    assert {**report.to_dict(), "dropped": 0} == {**other_report.to_dict(), "dropped": 0}


@given(fragments(), fragments())
@settings(deadline=None, max_examples=30)
def test_no_fact_of_any_source_is_lost(one: Graph, other: Graph) -> None:
    config = FuseConfig(is_resolving=False)
    fused, _ = fuse(toy_graph(), one, other, config=config)
    stated = {row[:3] + row[4:] for graph in (toy_graph(), one, other) for row in facts(graph)}
    assert {row[:3] + row[4:] for row in facts(fused)} == stated


def test_facts_of_several_sources_are_counted_and_keep_them_all() -> None:
    fused, report = fuse(toy_graph())
    facts = [tuple(row[c] for c in ("head", "relation", "tail")) for row in fused.triples.to_pylist()]
    assert report.corroborated == len({f for f in facts if facts.count(f) > 1}) == 1
    assert report.to_dict()["corroborated"] == report.numbers()["facts of several sources"] == 1


def test_a_direct_merge_resolves_nothing_and_believes_everything() -> None:
    mood = {"entity_id": "mood:Dark", "type": "Mood", "name": "Dark"}
    item = next(e for e in toy_graph().entities.to_pylist() if e["entity_id"] == "item:1")
    fact = {"head": "item:1", "relation": "has_mood", "tail": "mood:Dark", "confidence": 0.1, "source": "llm:cccc"}
    denied = {**fact, "relation": "complements", "confidence": 0.0}
    other = Graph.from_rows(
        entities=[mood, item], triples=[fact, denied], sources=[{"source": "llm:cccc", "kind": "llm", "reply_sha": "c"}]
    )
    merged, report = direct_merge(toy_graph(), other)
    assert [(row["row"]["confidence"], row["reason"]) for row in report.dropped] == [(0.0, "low_confidence")]
    assert {"mood:dark", "mood:Dark"} <= set(merged.entities["entity_id"].to_pylist())
    assert set(merged.triples["confidence"].to_pylist()) == {1.0}
    assert merged.counts()["triples"] == toy_graph().counts()["triples"] + 1
    assert merged.equals(direct_merge(merged)[0])


def test_a_name_similarity_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"min_name_similarity is 0.2; expected a number in \[0.5, 1\]"):
        FuseConfig(min_name_similarity=0.2)


def test_a_meaning_out_of_range_is_refused_and_one_that_nobody_can_judge() -> None:
    with pytest.raises(ConfigError, match=r"min_meaning is 1.2; expected a number in \[0, 1\]"):
        FuseConfig(min_meaning=1.2)
    with pytest.raises(ConfigError, match="min_meaning is 0.9, but there is no encoder; give `encode`"):
        fuse(toy_graph(), config=FuseConfig(min_meaning=0.9))


def test_names_that_mean_the_same_to_an_encoder_are_one_under_equal_letters_only() -> None:
    moods = [
        {"entity_id": f"mood:{n}", "type": "Mood", "name": name} for n, name in enumerate(["warm mood", "warm moods"])
    ]
    other = Graph.from_rows(entities=moods)
    means = {"warm mood": [1.0, 0.0], "warm moods": [0.95, 0.312], "dark": [0.0, 1.0]}
    config = FuseConfig(min_meaning=0.9)
    _, report = fuse(
        toy_graph(), other, config=config, encode=lambda some: np.array([means[s] for s in some], np.float32)
    )
    assert [m["reason"] for m in report.merged] == ["`warm mood` and `warm moods` of type `Mood`: meaning 0.95"]
