"""A merge of entities can be undone, and what came after it stays."""

from hypothesis import given
from hypothesis import strategies as st

from kg.difference import Difference
from kg.fuse import FuseConfig, fuse
from kg.graph import Graph, concat
from tests.toy import toy_graph


def doubled() -> Graph:
    """The toy graph and a second `dark` mood with a fact of its own."""
    mood = {"entity_id": "mood:Dark!", "type": "Mood", "name": "Dark!"}
    item = next(e for e in toy_graph().entities.to_pylist() if e["entity_id"] == "item:1")
    triple = {"head": "item:1", "relation": "has_mood", "tail": "mood:Dark!", "confidence": 0.4, "source": "llm:cccc"}
    source = {"source": "llm:cccc", "kind": "llm", "reply_sha": "cccc"}
    return concat(toy_graph(), Graph.from_rows(entities=[mood, item], triples=[triple], sources=[source]))


def test_a_merge_is_undone_to_the_last_row() -> None:
    before = doubled()
    after, report = fuse(before)
    assert [(m["entity_id"], m["canonical_id"]) for m in report.merged] == [("mood:dark", "mood:Dark!")]
    assert not after.equals(before.canonical())
    difference = Difference.between(before, after)
    assert difference.removed["entities"].num_rows == 1
    assert difference.undo(after).equals(before)


def test_what_was_written_since_stays() -> None:
    before = doubled()
    after, _ = fuse(before)
    difference = Difference.between(before, after)
    ends = [e for e in after.entities.to_pylist() if e["entity_id"] in ("item:2", "genre:drama")]
    fact = {"head": "item:2", "relation": "has_genre", "tail": "genre:drama", "confidence": 1.0, "source": "s"}
    later = concat(after, Graph.from_rows(entities=ends, triples=[fact], sources=[{"source": "s", "kind": "rule"}]))
    undone = difference.undo(later)
    assert undone.counts()["triples"] == before.counts()["triples"] + 1
    assert Difference.between(undone, before).added["triples"].num_rows == 0


@given(st.sampled_from([0.0, 0.5, 0.7]), st.booleans())
def test_any_fusion_of_one_graph_can_be_undone(least: float, is_resolving: bool) -> None:
    before = doubled()
    after, _ = fuse(before, config=FuseConfig(min_confidence=least, is_resolving=is_resolving))
    assert Difference.between(before, after).undo(after).equals(before)
