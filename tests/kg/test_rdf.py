import tempfile
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings

from kg.errors import FileFormatError
from kg.graph import Graph
from kg.rdf import read_rdf, write_rdf
from tests.kg.random_graphs import graphs, without
from tests.toy import toy_graph

LEFT_OUT = ("interactions", "hyperedges", "members", "texts", "features")
FOREIGN = """
@prefix ex: <http://example.org/> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
ex:Night_Rain a ex:Film ; rdfs:label "Nachtregen"@de, "Night rain"@en ; rdfs:comment "A film." ;
    ex:year 1999 ; ex:runtime "90" ; ex:by [ rdfs:label "Anna" ] .
ex:Day a ex:Film ; ex:year 2001 .
"""


def _path(folder: Path, text: str, name: str = "films.ttl") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize(("form", "name"), [("turtle", "toy.ttl"), ("nt", "toy.nt")])
def test_triples_with_confidence_and_sources_come_back(
    form: Literal["turtle", "nt"], name: str, tmp_path: Path
) -> None:
    left_out = write_rdf(toy_graph(), tmp_path / name, form)
    assert read_rdf(tmp_path / name)[0].equals(without(toy_graph(), *LEFT_OUT))
    assert left_out == {"interactions": 24, "hyperedges": 3, "members": 10, "texts": 2, "features": 1}


@settings(max_examples=25, deadline=None)
@given(graph=graphs())
def test_any_ids_and_texts_come_back(graph: Graph) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for form, name in (("turtle", "x.ttl"), ("nt", "x.nt")):
            write_rdf(graph, Path(folder) / name, form)  # type: ignore[arg-type]
            assert read_rdf(Path(folder) / name)[0].equals(without(graph, *LEFT_OUT))


def test_a_sure_fact_of_the_main_source_is_one_plain_statement(tmp_path: Path) -> None:
    write_rdf(toy_graph(), tmp_path / "toy.nt", "nt")
    lines = (tmp_path / "toy.nt").read_text(encoding="utf-8").splitlines()
    about = [line for line in lines if "genre%3Acomedy" in line and "has_genre" in line]
    assert len(about) == 3
    assert sum("Statement>" in line for line in lines) == 4


def test_a_sparql_user_finds_facts_and_their_confidence(tmp_path: Path) -> None:
    rdflib = pytest.importorskip("rdflib")
    write_rdf(toy_graph(), tmp_path / "toy.ttl")
    found = (
        rdflib.Graph()
        .parse(tmp_path / "toy.ttl")
        .query(
            """PREFIX rdf: <http://www.w3.org/1999/02/22-rdf-syntax-ns#>
        SELECT ?c WHERE { ?s rdf:subject <urn:kglift:id:item%3A7> ; rdf:predicate <urn:kglift:relation:has_mood> ;
        <urn:kglift:term:confidence> ?c . } ORDER BY ?c"""
        )
    )
    assert [str(row.c) for row in found] == ["0.5", "0.8"]


def test_foreign_turtle_names_texts_and_types(tmp_path: Path) -> None:
    graph, _ = read_rdf(_path(tmp_path, FOREIGN))
    rain = next(r for r in graph.entities.to_pylist() if r["entity_id"].endswith("Night_Rain"))
    assert (rain["name"], rain["text"], rain["type"]) == ("Night rain", "A film.", "Entity")
    assert read_rdf(_path(tmp_path, FOREIGN), language="de")[0].names()[rain["entity_id"]] == "Nachtregen"
    assert graph.names()["http://example.org/Day"] == "Day"
    assert set(graph.triples["source"].to_pylist()) == {"dataset:films"}
    assert len(graph.triples) == 3


def test_literals_that_become_nothing_are_counted_by_predicate(tmp_path: Path) -> None:
    _, report = read_rdf(_path(tmp_path, FOREIGN))
    year, runtime = "http://example.org/year", "http://example.org/runtime"
    assert report.read == {"triples": 3, "literals": 7}
    assert report.dropped == {"literals": {year: 2, runtime: 1, "other_name_or_text": 1}}


def test_blank_nodes_get_the_same_id_in_every_reading_and_form(tmp_path: Path) -> None:
    named = FOREIGN.replace('[ rdfs:label "Anna" ]', "_:somebody") + '_:somebody rdfs:label "Anna" .\n'
    one, two = read_rdf(_path(tmp_path, FOREIGN))[0], read_rdf(_path(tmp_path, named))[0]
    assert one.equals(two)
    assert any(entity.startswith("bnode:") for entity in one.names())


@pytest.mark.parametrize("was", ['"0.8"', '"40"', '\\"user:1\\"'])
def test_a_damaged_column_of_ours_is_named(tmp_path: Path, was: str) -> None:
    write_rdf(toy_graph(), tmp_path / "toy.nt", "nt")
    text = (tmp_path / "toy.nt").read_text(encoding="utf-8")
    assert was in text
    with pytest.raises(FileFormatError, match=r"`urn:kglift:term:\w+` is `.*`, which cannot be read"):
        read_rdf(_path(tmp_path, text.replace(was, '"nought"' if was[0] == '"' else "nought"), "bad.nt"))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.ttl", "<http://a> <http://b> .\n", "x.ttl` is not valid turtle: at line 1"),
        ("x.nt", "<http://a> <http://b> <http://c> .\nnonsense\n", "x.nt` is not valid nt: .*nonsense"),
        (
            "x.nt",
            '<urn:kglift:statement:1> <urn:kglift:term:confidence> "1" .\n',
            "has no object, predicate, source, sub",
        ),
        ("x.xml", "<a/>", r"x.xml` is neither .ttl \(Turtle\) nor .nt"),
    ],
)
def test_a_file_that_is_no_rdf_is_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(FileFormatError, match=said):
        read_rdf(_path(tmp_path, text, name))


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="unknown RDF format `xml`; expected turtle or nt"):
        write_rdf(toy_graph(), tmp_path / "toy.xml", "xml")  # type: ignore[arg-type]
