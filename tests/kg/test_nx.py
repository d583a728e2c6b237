import tempfile
from pathlib import Path

import networkx
import pytest
from hypothesis import given, settings

from kg.errors import FileFormatError, SchemaError, WriteError
from kg.graph import Graph
from kg.nx import from_networkx, read_graphml, to_networkx, write_graphml
from tests.kg.random_graphs import graphs, without
from tests.toy import toy_graph


def test_everything_but_texts_and_features_comes_back(tmp_path: Path) -> None:
    kept = without(toy_graph(), "texts", "features")
    assert from_networkx(to_networkx(toy_graph())).equals(kept)
    assert write_graphml(toy_graph(), tmp_path / "toy.graphml") == {"texts": 2, "features": 1}
    assert read_graphml(tmp_path / "toy.graphml")[0].equals(kept)


@settings(max_examples=25, deadline=None)
@given(graph=graphs())
def test_any_ids_and_texts_come_back(graph: Graph) -> None:
    assert from_networkx(to_networkx(graph)).equals(graph)
    with tempfile.TemporaryDirectory() as folder:
        write_graphml(graph, Path(folder) / "x.graphml")
        assert read_graphml(Path(folder) / "x.graphml")[0].equals(graph)


def test_networkx_sees_kinds_relations_and_confidence() -> None:
    made = to_networkx(toy_graph())
    assert made.nodes["item:5"]["type"] == "Item"
    edges = [d for _, t, d in made.out_edges("item:7", data=True) if t == "mood:dark"]
    assert sorted((d["relation"], d["confidence"], d["kind"]) for d in edges) == [
        ("has_mood", 0.5, "triple"),
        ("has_mood", 0.8, "triple"),
    ]
    assert made.edges["user:1", "item:1", 0]["relation"] == "interacts"
    assert networkx.shortest_path_length(made, "user:1", "genre:comedy") == 2


def test_a_foreign_graph_becomes_entities_and_triples() -> None:
    foreign = networkx.Graph()
    foreign.add_node(1, label="Anna", type="Person", age=40)
    foreign.add_edge(1, "b", label="knows", confidence=0.5)
    foreign.add_edge("b", "c")
    graph = from_networkx(foreign, name="friends")
    assert [tuple(row.values()) for row in graph.triples.to_pylist()] == [
        ("1", "knows", "b", 0.5, "dataset:friends"),
        ("b", "related_to", "c", 1.0, "dataset:friends"),
    ]
    assert graph.names() == {"1": "Anna", "b": "b", "c": "c"}


def test_repeated_foreign_edges_are_counted(tmp_path: Path) -> None:
    foreign = networkx.MultiDiGraph([("a", "b"), ("a", "b"), ("b", "a")])
    networkx.write_graphml(foreign, tmp_path / "x.graphml")
    graph, report = read_graphml(tmp_path / "x.graphml")
    assert len(graph.triples) == 2
    assert (report.read, report.dropped) == ({"nodes": 2, "edges": 3}, {"edges": {"duplicate": 1}})


def test_nodes_of_one_text_are_refused() -> None:
    with pytest.raises(SchemaError, match="occur more than once: `1`"):
        from_networkx(networkx.Graph([(1, "1")]))


def test_an_attribute_of_a_wrong_type_is_refused() -> None:
    foreign = networkx.DiGraph()
    foreign.add_edge("a", "b", confidence="high")
    with pytest.raises(SchemaError, match="table `triples`: a value has the wrong type: .*correct that row"):
        from_networkx(foreign)


@pytest.mark.parametrize("text", ["none", "{}", "[1]"])
def test_sources_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(SchemaError, match=r"the graph attribute `sources` is `.*`; expected a JSON list"):
        from_networkx(networkx.DiGraph(sources=text))


def test_a_control_character_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    graph = Graph.from_rows(entities=[{"entity_id": "a", "type": "T", "name": "be\x07ll"}])
    with pytest.raises(WriteError, match=r"`name` of `'be\\x07ll'` holds the control character U\+0007"):
        write_graphml(graph, tmp_path / "x.graphml")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["<graphml><node>", "no xml", "<html></html>"])
def test_a_file_that_is_no_graphml_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.graphml").write_text(text)
    with pytest.raises(FileFormatError, match="x.graphml` is not valid GraphML: .*export it again"):
        read_graphml(tmp_path / "x.graphml")
