"""The counts of real sets, read by each source: published or counted by hand, see the SOURCES.md of each set."""

from collections import Counter
from pathlib import Path

import pyarrow.compute as pc
import pytest

from kg.graph import Graph
from kg.rdf import read_rdf, write_rdf
from kg.source import ReadReport
from kg.sources.kgat import KGAT
from kg.sources.kgcn import KGCN
from kg.sources.lightgcn import LightGCN
from kg.sources.recbole import RecBole
from kg.sources.table import Table
from tests.shared_data import shared


def _types(graph: Graph) -> dict[str, int]:
    return dict(Counter(graph.entities["type"].to_pylist()))


def _splits(graph: Graph) -> dict[str, int]:
    return dict(Counter(graph.interactions["split"].to_pylist()))


def _n_relations(graph: Graph) -> int:
    return len(pc.unique(graph.triples["relation"]))


def _row(graph: Graph, entity_id: str) -> dict[str, object]:
    return graph.entities.filter(pc.equal(graph.entities["entity_id"], entity_id)).to_pylist()[0]


@pytest.fixture(scope="module")
def ml_100k() -> tuple[Graph, ReadReport]:
    return RecBole().read_with_report(shared("ml-100k-recbole"))


def test_ml_100k_with_its_freebase_graph(ml_100k: tuple[Graph, ReadReport]) -> None:
    graph, report = ml_100k
    assert _types(graph) == {"User": 943, "Item": 1682, "Entity": 34_628 - 1598}
    assert len(graph.triples) == 91_631
    assert _n_relations(graph) == 24
    assert _splits(graph) == {"unsplit": 100_000}
    assert report.read == {"interactions": 100_000, "triples": 91_631, "links": 1598}
    assert report.dropped == {}


def test_ml_100k_triples_hang_on_the_linked_items_under_readable_relations(ml_100k: tuple[Graph, ReadReport]) -> None:
    graph = ml_100k[0]
    ends = set(graph.triples["head"].to_pylist()) | set(graph.triples["tail"].to_pylist())
    assert sum(end.startswith("item:") for end in ends) == 1598
    genres = {
        row["tail"]
        for row in graph.triples.to_pylist()
        if row["head"] == "item:1" and row["relation"] == "film.film.genre"
    }
    assert len(genres) >= 3
    assert all(genre.startswith("entity:m.") for genre in genres)


def test_ml_100k_items_and_users_are_described(ml_100k: tuple[Graph, ReadReport]) -> None:
    graph = ml_100k[0]
    assert _row(graph, "item:1") == {
        "entity_id": "item:1",
        "type": "Item",
        "name": "Toy Story",
        "text": "Toy Story. year: 1995. genres: Animation Children's Comedy",
    }
    assert _row(graph, "user:1")["text"] == "age: 24. gender: M. occupation: technician"


def test_ml_100k_keeps_time_and_rating(ml_100k: tuple[Graph, ReadReport]) -> None:
    graph = ml_100k[0]
    first = {"user_id": "user:196", "item_id": "item:242", "timestamp": 881_250_949, "value": 3.0, "split": "unsplit"}
    assert graph.interactions.slice(0, 1).to_pylist() == [first]


def test_gowalla_in_the_split_of_lightgcn() -> None:
    graph, report = LightGCN().read_with_report(shared("gowalla-lightgcn"))
    assert _types(graph) == {"User": 29_858, "Item": 40_981}
    assert _splits(graph) == {"train": 810_128, "test": 217_242}
    assert report.dropped == {}


def test_dbbook2014_of_cikgrec() -> None:
    graph = KGAT().read(shared("cikgrec") / "dbbook2014")
    assert _types(graph) == {"User": 5576, "Item": 2680, "Entity": 6228}
    assert _splits(graph) == {"train": 50_745, "test": 15_216}
    assert len(graph.triples) == 134_223
    assert _n_relations(graph) == 13
    assert _row(graph, "item:1")["name"] == "Dragonfly in Amber"


def test_book_crossing_of_cikgrec() -> None:
    graph = KGAT().read(shared("cikgrec") / "book-crossing")
    assert _types(graph)["Item"] == 8853
    assert _splits(graph) == {"train": 85_989, "test": 24_673}
    assert (len(graph.triples), _n_relations(graph)) == (1137, 4)
    assert "book.written_work.author" in graph.triples["relation"].to_pylist()
    assert _row(graph, "item:0002005018")["name"] == "Clara Callan"


def test_last_fm_of_colakg_with_its_artist_tag_graph() -> None:
    graph = KGAT(KGAT.Config(facts="remapkg1.csv")).read(shared("colakg-ml1m-lastfm") / "lastfm")
    assert _types(graph) == {"User": 1859, "Item": 2813, "Entity": 6801}
    assert _splits(graph) == {"train": 57_786, "test": 13_508}
    assert (len(graph.triples), _n_relations(graph)) == (59_250, 1)


@pytest.mark.parametrize(
    ("name", "n_users", "n_items", "n_positive", "n_entities", "n_triples", "n_relations"),
    [
        ("music", 1872, 3846, 21_173, 9366, 15_518, 60),
        ("book", 17_860, 14_967, 69_873, 77_903, 151_500, 25),
    ],
)
def test_last_fm_and_book_crossing_of_mcclk(
    name: str, n_users: int, n_items: int, n_positive: int, n_entities: int, n_triples: int, n_relations: int
) -> None:
    graph, report = KGCN().read_with_report(shared("kg-book-music") / "mcclk" / name)
    assert _types(graph) == {"User": n_users, "Item": n_items, "Entity": n_entities - n_items}
    assert len(graph.interactions) == n_positive
    assert report.dropped == {"interactions": {"negative": n_positive}}
    assert (len(graph.triples), _n_relations(graph)) == (n_triples, n_relations)


def test_last_fm_of_kgcn_from_its_raw_ratings() -> None:
    source = KGCN(KGCN.Config(ratings="user_artists.dat"))
    graph, report = source.read_with_report(shared("kg-book-music") / "kgcn" / "music")
    assert _types(graph) == {"User": 1872, "Item": 3846, "Entity": 9366 - 3846}
    assert len(graph.interactions) == 21_173
    assert report.dropped == {"interactions": {"item_without_entity": 92_834 - 21_173}}
    assert (len(graph.triples), _n_relations(graph)) == (15_518, 60)
    assert "music.artist.origin" in graph.triples["relation"].to_pylist()


def test_amazon_reviews_through_a_column_mapping() -> None:
    config = Table.Config(user="reviewerID", item="asin", timestamp="unixReviewTime", value="overall")
    path = shared("amazon-musical-instruments") / "reviews.csv.gz"
    graph, report = Table(config).read_with_report(path)
    assert _types(graph) == {"User": 1429, "Item": 900}
    assert len(graph.interactions) == 10_261
    assert report.dropped == {}
    years = pc.year(graph.interactions["timestamp"].cast("timestamp[s]")).to_pylist()
    assert (min(years), max(years)) == (2004, 2014)


@pytest.mark.slow
def test_a_graph_of_dbpedia_iris_through_n_triples(tmp_path: Path) -> None:
    graph = KGAT().read(shared("cikgrec") / "dbbook2014")
    write_rdf(graph, tmp_path / "dbbook2014.nt", "nt")
    line = next(
        line for line in (tmp_path / "dbbook2014.nt").open(encoding="utf-8") if "ontology/literaryGenre" in line
    )
    assert line.count("<http://dbpedia.org/") >= 2
    back, report = read_rdf(tmp_path / "dbbook2014.nt")
    assert back.triples.num_rows == 134_223
    assert back.equals(graph.replace(interactions=graph.interactions.slice(0, 0)))
    assert report.dropped == {}
