import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings

from kg.errors import DuplicateIdError, FileFormatError, WriteError
from kg.graph import Graph
from kg.hif import read_hif, write_hif
from tests.kg.random_graphs import graphs, without
from tests.toy import toy_graph

LEFT_OUT = ("interactions", "triples", "features")


def _path(folder: Path, document: object) -> Path:
    (folder / "x.json").write_text(json.dumps(document), encoding="utf-8")
    return folder / "x.json"


def test_hyperedges_come_back_with_roles_positions_weights_texts_and_sources(tmp_path: Path) -> None:
    left_out = write_hif(toy_graph(), tmp_path / "toy.json")
    graph, report = read_hif(tmp_path / "toy.json")
    assert graph.equals(without(toy_graph(), *LEFT_OUT))
    assert left_out == {"interactions": 24, "triples": 12, "features": 1}
    assert report.read == {"nodes": 20, "edges": 3, "incidences": 10}


@settings(max_examples=25, deadline=None)
@given(graph=graphs())
def test_any_ids_and_texts_come_back(graph: Graph) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_hif(graph, Path(folder) / "x.json")
        assert read_hif(Path(folder) / "x.json")[0].equals(without(graph, *LEFT_OUT))


def test_a_foreign_file_needs_nothing_but_incidences(tmp_path: Path) -> None:
    incidences = [{"edge": 0, "node": "a"}, {"edge": 0, "node": 7, "direction": "head"}, {"edge": "e", "node": "a"}]
    document = {"network-type": "directed", "incidences": incidences, "edges": [{"edge": "e", "weight": 2}]}
    graph, _ = read_hif(_path(tmp_path, document), name="mine")
    assert [(r["hyperedge_id"], r["entity_id"], r["role"]) for r in graph.members.to_pylist()] == [
        ("0", "a", "member"),
        ("0", "7", "head"),
        ("e", "a", "member"),
    ]
    assert {r["hyperedge_id"]: (r["weight"], r["source"]) for r in graph.hyperedges.to_pylist()} == {
        "e": (2.0, "dataset:mine"),
        "0": (1.0, "dataset:mine"),
    }


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "has no list `incidences`; expected a HIF object"),
        ({"nodes": []}, "has no list `incidences`"),
        (
            {"incidences": [], "network-type": "tree"},
            "network-type is `tree`; expected one of undirected, directed, asc",
        ),
        ({"incidences": [{"edge": 1}]}, r"incidences\[0\] is `{'edge': 1}`; expected an object with `node`"),
        ({"incidences": [], "nodes": [3]}, r"nodes\[0\] is `3`; expected an object with `node`"),
        ({"incidences": [], "nodes": 3}, "`nodes` is no list"),
        ({"incidences": [], "nodes": [{"node": 1, "attrs": 2}]}, r"attrs of nodes\[0\] are `2`; expected an object"),
        ({"incidences": [], "nodes": [{"node": 1, "attrs": {"texts": "x"}}]}, r"attrs of nodes\[0\] are"),
        ({"incidences": [], "metadata": 3}, "`metadata` is no object"),
        ({"incidences": [], "metadata": {"sources": [1]}}, r"metadata.sources is `\[1\]`, no list of objects"),
        ({"incidences": [], "edges": [{"edge": 1, "weight": "big"}]}, "weight of edge `1` is `big`; expected a number"),
    ],
)
def test_a_file_that_is_no_hif_is_named(tmp_path: Path, document: object, said: str) -> None:
    with pytest.raises(FileFormatError, match=said):
        read_hif(_path(tmp_path, document))


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(FileFormatError, match="x.json` is not valid JSON: .*export it again"):
        read_hif(tmp_path / "x.json")


def test_an_edge_that_is_there_twice_is_named(tmp_path: Path) -> None:
    with pytest.raises(DuplicateIdError, match=r"edges\[1\] repeats the id `e`"):
        read_hif(_path(tmp_path, {"incidences": [], "edges": [{"edge": "e"}, {"edge": "e"}]}))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(WriteError, match="cannot write .*toy.json"):
        write_hif(toy_graph(), tmp_path / "file" / "toy.json")
