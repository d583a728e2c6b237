"""A fact that claims a quote is kept only if the unit's text has it, and the quote leads back to the sentence."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.engine import extract
from extract.method import Facts, Unit
from extract.methods.item_facts import ItemFacts
from extract.quotes import ReplySources
from extract.steps import extract_steps
from gnn.explain import PathFinder
from kg.ckg import CollaborativeKG
from kg.graph import Graph, concat
from kglift.explain import explain
from tests.extract.asking import MoodMethod, moods, prompt, scripted
from tests.toy import toy_graph

_BASE = {"source": "llm:base", "quote": None}


class Quoting(MoodMethod):
    """Claims the words after a colon as the quote."""

    def units(self, graph: Graph) -> Iterator[Unit]:
        yield Unit("item:1", {"name": "A sad  war story.\nNobody laughs."})

    def facts(self, reply: object, unit: Unit, graph: Graph) -> Facts:
        pairs = [name.split(":") for name in reply.moods]  # type: ignore[attr-defined]
        entities = [{"entity_id": f"mood:{name}", "type": "Mood", "name": name} for name, _ in pairs]
        triple = {"head": "item:1", "relation": "has_mood", "confidence": 0.5}
        return Facts({"entities": entities, "triples": [{**triple, "tail": f"mood:{n}", "quote": q} for n, q in pairs]})


@pytest.fixture
def quoting(monkeypatch: pytest.MonkeyPatch) -> Quoting:
    monkeypatch.setattr("extract.engine.load_prompt", prompt)
    return Quoting()


def test_a_quote_that_is_in_no_text_costs_its_fact(quoting: Quoting, tmp_path: Path) -> None:
    said = moods("sad:SAD WAR", "grim:nobody\tlaughs", "gay:everybody laughs", "void: ")
    result = extract(quoting, toy_graph(), scripted([said]), tmp_path / "ledger")
    sources = {s["source"]: s for s in result.graph.sources.to_pylist()}
    facts = {t["tail"]: sources[t["source"]] for t in result.graph.triples.to_pylist()}
    assert {tail: source["quote"] for tail, source in facts.items()} == {
        "mood:sad": "SAD WAR", "mood:grim": "nobody laughs",
    }  # fmt: skip
    assert len(sources) == 2
    assert {(s["unit"], s["reply"]) for s in sources.values()} == {("item:1", said)}
    assert result.summary.rejects["quote_not_in_text"].count == 2
    assert result.summary.done == 1


def test_a_reply_without_a_backed_quote_is_rejected_and_leaves_no_source(quoting: Quoting, tmp_path: Path) -> None:
    result = extract(quoting, toy_graph(), scripted([moods("gay:all laugh")]), tmp_path / "ledger")
    assert (result.summary.rejected, len(result.graph.sources)) == (1, 0)


@given(st.text(), st.lists(st.text(), max_size=3))
def test_any_quote_is_cited_exactly_where_a_text_has_its_words(quote: str, texts: list[str]) -> None:
    unit = Unit("u", {f"t{n}": text for n, text in enumerate(texts)} | {"words": [quote]})
    row = ReplySources(dict(_BASE), unit).cite({"quote": quote})
    words = quote.casefold().split()
    has = any(" ".join(words) in " ".join(text.casefold().split()) for text in texts)
    assert (row is not None) == (bool(words) and has)


def test_equal_quotes_have_one_source_and_a_row_without_one_has_the_reply() -> None:
    sources = ReplySources(dict(_BASE), Unit("u", {"text": "a sad story"}))
    one, other, plain = (sources.cite(row) for row in ({"quote": "Sad"}, {"quote": " sad "}, {}))
    assert one == other
    assert plain == {"source": "llm:base"}
    assert len(sources.rows) == 2


def test_an_explanation_leads_from_the_item_back_to_the_sentence(tmp_path: Path) -> None:
    text = "Nobody is safe. The story is about war and loss. The end."
    rows = [{**e, "text": text if e["type"] == "Item" else e["text"]} for e in toy_graph().entities.to_pylist()]
    graph = toy_graph().replace(entities=Graph.from_rows(entities=rows).entities)
    said = json.dumps({"has_theme": ["war"]})
    method = ItemFacts(ItemFacts.Config(relations=("has_theme",)))
    result = extract_steps(method, graph, scripted(lambda _: said), tmp_path / "ledger")
    assert set(result.graph.sources["quote"].to_pylist()) == {"The story is about war and loss."}
    fused = concat(graph, result.graph)
    found = explain(fused, PathFinder(CollaborativeKG.from_graph(fused)), "user:1", "item:8", limit=9)
    assert "The story is about war and loss." in json.dumps(found.to_dict())
