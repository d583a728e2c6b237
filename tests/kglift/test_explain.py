"""What a user would lose: a reason in words, with the sources that stand behind every edge."""

import io
import json

import pyarrow as pa
import pytest
from rich.console import Console

from gnn.explain import PathFinder
from kg.ckg import CollaborativeKG
from kg.errors import UnknownIdError
from kglift.explain import explain, find_entity, render_explanation
from kglift.sentences import relation_words
from tests.toy import toy_graph


@pytest.fixture(scope="module")
def graph():
    return toy_graph()


@pytest.fixture(scope="module")
def finder(graph):
    return PathFinder(CollaborativeKG.from_graph(graph))


def _edges(explanation, relation):
    return [e for path in explanation.paths for e in path.edges if e.relation == relation]


def test_an_llm_edge_leads_back_to_model_prompt_unit_and_words(graph, finder):
    explanation = explain(graph, finder, "user:5", "item:7")
    edge = next(e for e in _edges(explanation, "has_mood") if e.head == "item:7")
    assert edge.is_backward
    assert edge.confidence == pytest.approx(1 - 0.2 * 0.5)
    first, second = edge.evidence
    assert (first.confidence, first.model, first.prompt, first.prompt_version) == (0.8, "scripted", "item_facts", "v1")
    assert (first.unit, first.quote, first.words) == ("item:5", "a lie", '{"mood": "dark"}')
    assert (second.source, second.confidence, second.quote) == ("llm:bbbb", 0.5, None)


def test_a_fact_of_the_data_set_names_the_data_set(graph, finder):
    (edge, *_) = _edges(explain(graph, finder, "1", "3"), "has_genre")
    assert [(e.source, e.kind) for e in edge.evidence] == [("dataset:toy", "dataset")]


@pytest.mark.parametrize(
    ("user", "item", "sentence"),
    [
        ("5", "7", "Because you chose 5, which has mood dark (scripted, item_facts v1: “a lie”), as has 7."),
        ("5", "7", "Because you chose 5, which is directed by anna, as is 7."),
        ("1", "3", "Because you chose 1, which has genre comedy, as has 3."),
        ("1", "3", "Because you chose 1, which user 3 chose too, who also chose 3."),
        (
            "1",
            "3",
            'Because you belong to “slapstick” (scripted, llmhg v1: “{"angle": "humour"}”), which also holds 3.',
        ),
    ],
)
def test_a_path_reads_as_a_sentence(graph, finder, user, item, sentence):
    assert sentence in [p.sentence for p in explain(graph, finder, user, item, limit=10).paths]


def test_a_path_over_two_relations_reads_as_a_sentence(graph):
    only_acts = [t for t in graph.triples.to_pylist() if (t["head"], t["relation"]) != ("item:7", "directed_by")]
    graph = graph.replace(triples=pa.Table.from_pylist(only_acts, graph.triples.schema))
    explanation = explain(graph, PathFinder(CollaborativeKG.from_graph(graph)), "5", "7")
    expected = "Because you chose 5, which is directed by anna, to which 7 is tied by “acted by”."
    assert expected in [p.sentence for p in explanation.paths]


def test_a_noun_as_relation_reads_as_a_sentence(graph):
    triples = graph.triples.to_pandas().replace({"relation": {"directed_by": "film.film.director"}})
    graph = graph.replace(triples=pa.Table.from_pandas(triples, preserve_index=False))
    explanation = explain(graph, PathFinder(CollaborativeKG.from_graph(graph)), "5", "7")
    assert "Because you chose 5, whose “director” is anna, like that of 7." in [p.sentence for p in explanation.paths]
    assert relation_words("film.film.directed_by") == "directed by"


def test_an_item_without_path_has_an_empty_explanation_that_says_so(graph, finder):
    explanation = explain(graph, finder, "3", "5")
    assert explanation.paths == ()
    assert "no path of at most three edges supports it" in _rendered(explanation)


def test_an_item_the_user_has_already_is_marked(graph, finder):
    assert explain(graph, finder, "1", "2").is_known
    assert not explain(graph, finder, "1", "3").is_known
    assert "the user has this item already" in _rendered(explain(graph, finder, "1", "2"))


def test_the_explanation_survives_json(graph, finder):
    explanation = explain(graph, finder, "5", "7")
    plain = json.loads(json.dumps(explanation.to_dict()))
    assert plain["user"] == {"id": "user:5", "type": "User", "name": "5"}
    assert [p["sentence"] for p in plain["paths"]] == [p.sentence for p in explanation.paths]
    assert plain["paths"][0]["edges"][0]["evidence"][0]["source"] == "interactions"


def test_the_terminal_shows_words_that_look_like_markup(graph, finder):
    sources = graph.sources.to_pandas().replace({"quote": {"a lie": "[red]not markup[/red]"}})
    hostile = graph.replace(sources=pa.Table.from_pandas(sources, schema=graph.sources.schema, preserve_index=False))
    assert "[red]not markup[/red]" in _rendered(explain(hostile, finder, "5", "7"))


def test_a_reply_cannot_drive_the_terminal(graph, finder):
    sources = graph.sources.to_pandas().replace({"quote": {"a lie": "\x1b[2Ja lie\u202e\a"}})
    hostile = graph.replace(sources=pa.Table.from_pandas(sources, schema=graph.sources.schema, preserve_index=False))
    explanation = explain(hostile, finder, "5", "7")
    assert "\x1b" not in _rendered(explanation)
    assert "[2Ja lie" in [e.quote for edge in _edges(explanation, "has_mood") for e in edge.evidence]


def test_a_long_reply_is_cut_around_the_words_in_question(graph, finder):
    reply = "x" * 400 + " dark " + "y" * 400
    sources = graph.sources.to_pandas().replace({"quote": {"a lie": None}, "reply": {'{"mood": "dark"}': reply}})
    longer = graph.replace(sources=pa.Table.from_pandas(sources, schema=graph.sources.schema, preserve_index=False))
    evidence = _edges(explain(longer, finder, "5", "7"), "has_mood")[0].evidence[0]
    assert " dark " in evidence.words
    assert evidence.words.startswith("…")
    assert len(evidence.words) <= 162


@pytest.mark.parametrize("text", ["item:5", "5", " 5 "])
def test_an_entity_is_found_by_id_and_bare_id(graph, text):
    assert find_entity(graph, text, "Item") == "item:5"


def test_an_entity_is_found_by_its_name_whatever_the_case(graph):
    assert find_entity(_renamed(graph), "the thin man (1934)", "Item") == "item:5"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("The Thin Men (1934)", r"no Item is called `The Thin Men \(1934\)`; did you mean `item:5` \(The Thin Man"),
        ("Twins", "2 of type Item are called `Twins`: `item:1`, `item:2`; give one of the ids"),
        ("zzzzzz", r"no Item is called `zzzzzz`; there are 8, e.g. `item:1` \(Twins\)"),
    ],
)
def test_an_unknown_or_ambiguous_name_is_explained(graph, text, match):
    with pytest.raises(UnknownIdError, match=match):
        find_entity(_renamed(graph), text, "Item")


def test_a_type_without_entities_is_explained(graph):
    with pytest.raises(UnknownIdError, match="no Planet is called `mars`; the graph has none of this type"):
        find_entity(graph, "mars", "Planet")


def _renamed(graph):
    entities = graph.entities.to_pandas()
    names = {"item:5": "The Thin Man (1934)", "item:1": "Twins", "item:2": "Twins"}
    entities["name"] = entities["entity_id"].map(names).fillna(entities["name"])
    return graph.replace(entities=pa.Table.from_pandas(entities, preserve_index=False))


def _rendered(explanation):
    console = Console(file=io.StringIO(), width=400)
    render_explanation(explanation, console)
    return console.file.getvalue()
