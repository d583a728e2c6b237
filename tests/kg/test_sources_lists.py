"""LightGCN, KGAT and KGCN lists, and the id lists that they share."""

import io
from pathlib import Path

import numpy as np
import pytest

from kg.errors import DuplicateIdError, FileFormatError, SplitError, UnknownIdError, WriteError
from kg.graph import Graph
from kg.sources.kgat import KGAT
from kg.sources.kgcn import KGCN
from kg.sources.lightgcn import LightGCN
from tests.toy import toy_graph

LISTS = {"train.txt": "0 0 1\n1 1\n", "test.txt": "0 2\n\n"}
KG = {**LISTS, "kg_final.txt": "0 0 3\n3 1 4\n"}


def _folder(tmp_path: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def _pairs(graph: Graph) -> list[tuple[str, str, str]]:
    return sorted((r["user_id"], r["item_id"], r["split"]) for r in graph.interactions.to_pylist())


def test_numbers_are_ids_where_no_list_says_otherwise(tmp_path: Path) -> None:
    graph = LightGCN().read(_folder(tmp_path, LISTS))
    assert _pairs(graph) == [
        ("user:0", "item:0", "train"),
        ("user:0", "item:1", "train"),
        ("user:0", "item:2", "test"),
        ("user:1", "item:1", "train"),
    ]


def test_lists_give_ids_and_names_even_to_what_nobody_has(tmp_path: Path) -> None:
    lists = {
        "user_list.txt": "org_id remap_id\nanna 0\nbert 1\nzoe 2\n",
        "item_list.txt": "org_id remap_id item_name\nB01 0 A long title\nB02 1 http://x.org/The_End\nB03 2\nB04 3\n",
    }
    graph = LightGCN().read(_folder(tmp_path, LISTS | lists))
    names = graph.names()
    assert graph.ids_of("User") == ["user:anna", "user:bert", "user:zoe"]
    assert [names[f"item:B0{n}"] for n in (1, 2, 3, 4)] == ["A long title", "The End", "B03", "B04"]


def test_a_pair_in_train_and_test_stays_in_train(tmp_path: Path) -> None:
    graph, report = LightGCN().read_with_report(_folder(tmp_path, {"train.txt": "0 1 1\n", "test.txt": "0 1 2\n"}))
    assert _pairs(graph) == [("user:0", "item:1", "train"), ("user:0", "item:2", "test")]
    assert report.dropped == {"interactions": {"duplicate": 2}}


def test_a_user_without_items_is_kept(tmp_path: Path) -> None:
    graph = LightGCN().read(_folder(tmp_path, {"train.txt": "0 1\n7\n", "test.txt": "0 2\n"}))
    assert graph.ids_of("User") == ["user:0", "user:7"]


def test_lightgcn_lists_come_back(tmp_path: Path) -> None:
    toy = toy_graph()
    left_out = LightGCN().write(toy, tmp_path / "toy")
    assert _pairs(LightGCN().read(tmp_path / "toy")) == _pairs(toy)
    assert left_out == {"triples": 12, "hyperedges": 3, "members": 10, "texts": 2, "features": 1}


@pytest.mark.parametrize("source", [LightGCN(), KGAT()])
def test_lists_need_a_split(source: LightGCN | KGAT, tmp_path: Path) -> None:
    toy = toy_graph()
    names = toy.interactions.column_names
    unsplit = toy.interactions.set_column(names.index("split"), "split", [["unsplit"] * len(toy.interactions)])
    with pytest.raises(SplitError, match="need a split and some interactions have none"):
        source.write(toy.replace(interactions=unsplit), tmp_path / "toy")
    assert list(tmp_path.iterdir()) == []


def test_lists_need_pairs_in_train_and_test(tmp_path: Path) -> None:
    toy = toy_graph()
    with pytest.raises(SplitError, match="need interactions in train and test, and `test` has none"):
        LightGCN().write(toy.replace(interactions=toy.interactions_of("train")), tmp_path / "toy")


def test_kgat_lists_need_triples(tmp_path: Path) -> None:
    toy = toy_graph()
    with pytest.raises(
        WriteError, match="cannot write `kg_final.txt`: the graph has no triples; write it as `lightgcn`"
    ):
        KGAT().write(toy.replace(triples=toy.triples.slice(0, 0)), tmp_path / "toy")


def test_an_id_with_a_blank_cannot_be_written_to_lists(tmp_path: Path) -> None:
    rows = [{"entity_id": "user:a b", "type": "User", "name": "x"}]
    with pytest.raises(WriteError, match=r"cannot write `user_list.txt`: `a b` holds a blank"):
        LightGCN().write(Graph.from_rows(entities=rows), tmp_path / "odd")


@pytest.mark.parametrize(
    ("files", "kind", "said"),
    [
        ({"train.txt": "0 1\n"}, FileFormatError, r"holds no `test.txt` \(nor with `.gz`\); it holds `train.txt`"),
        (
            LISTS | {"train.txt": "0 1\n  \n1 2 x3 4\n"},
            FileFormatError,
            "train.txt`, line 3: `x3` is not a whole number",
        ),
        (LISTS | {"train.txt": "0 1\u00a02\n"}, FileFormatError, "line 1: `1\u00a02` is not a whole number"),
        (LISTS | {"train.txt": "0 -1\n"}, FileFormatError, "train.txt` uses the number `-1`; expected numbers from 0"),
        (LISTS | {"item_list.txt": "a 0\nb 1\n"}, UnknownIdError, "test.txt` uses 1 numbers that .*does not list: `2`"),
        (LISTS | {"user_list.txt": "a 0\nb 0\n"}, DuplicateIdError, "line 2: number `0` occurs more than once"),
        (LISTS | {"user_list.txt": "a 0\na 1\n"}, DuplicateIdError, "1 ids occur more than once: `a`"),
        (
            LISTS | {"user_list.txt": "org_id remap_id\na 0\nb\n"},
            FileFormatError,
            "line 3: `b` is not `org_id remap_id`",
        ),
    ],
)
def test_bad_lists_are_named_with_their_line(
    tmp_path: Path, files: dict[str, str], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        LightGCN().read(_folder(tmp_path, files))


def test_the_number_of_an_item_is_its_number_as_an_entity(tmp_path: Path) -> None:
    graph = KGAT().read(_folder(tmp_path, KG))
    facts = [(r["head"], r["relation"], r["tail"]) for r in graph.triples.to_pylist()]
    assert facts == [("item:0", "relation_0", "entity:3"), ("entity:3", "relation_1", "entity:4")]


def test_entity_and_relation_lists_give_iris_and_names(tmp_path: Path) -> None:
    lists = {
        "entity_list.txt": "org_id remap_id\nm.0 0\nm.1 1\nm.2 2\nhttp://x.org/Night_Rain 3\nm.04 4\n",
        "relation_list.txt": "org_id remap_id\nfilm.film.genre 0\nhttp://x.org/by 1\n",
    }
    graph = KGAT().read(_folder(tmp_path, KG | lists))
    facts = [(r["head"], r["relation"], r["tail"]) for r in graph.triples.to_pylist()]
    night = "http://x.org/Night_Rain"
    assert facts == [("item:0", "film.film.genre", night), (night, "http://x.org/by", "entity:m.04")]
    assert graph.names()[night] == "Night Rain"


@pytest.mark.parametrize(
    ("files", "kind", "said"),
    [
        (LISTS, FileFormatError, "holds no `kg_final.txt`"),
        (
            KG | {"kg_final.txt": "0 0 3\n3 1\n"},
            FileFormatError,
            r"line 2: 2 columns, expected 3 \(head, relation, tail\)",
        ),
        (KG | {"kg_final.txt": "0 0 3\n3 1 x\n"}, FileFormatError, "line 2, column `tail`: `x` is not a whole number"),
        (KG | {"kg_final.txt": "0 0 3\n3 1 \n"}, FileFormatError, "line 2, column `tail`: `` is not a whole number"),
        (
            KG | {"relation_list.txt": "a 0\n"},
            UnknownIdError,
            "kg_final.txt` uses 1 numbers .*relation_list.txt.*: `1`",
        ),
    ],
)
def test_a_bad_knowledge_graph_is_named_with_its_line(
    tmp_path: Path, files: dict[str, str], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        KGAT().read(_folder(tmp_path, files))


def test_triples_may_lie_in_another_file_with_commas(tmp_path: Path) -> None:
    files = LISTS | {"facts.csv": "0,tag,3\n3,tag,4\n"}
    graph = KGAT(KGAT.Config(facts="facts.csv")).read(_folder(tmp_path, files))
    facts = [(r["head"], r["relation"], r["tail"]) for r in graph.triples.to_pylist()]
    assert facts == [("item:0", "tag", "entity:3"), ("entity:3", "tag", "entity:4")]


def test_kgat_names_come_back(tmp_path: Path) -> None:
    KGAT().write(toy_graph(), tmp_path / "toy")
    names = KGAT().read(tmp_path / "toy").names()
    assert names == {entity: name for entity, name in toy_graph().names().items() if entity in names}
    assert _pairs(KGAT().read(tmp_path / "toy")) == _pairs(toy_graph())


def _ratings(tmp_path: Path, rows: object) -> Path:
    sink = io.BytesIO()
    np.save(sink, np.array(rows))
    (tmp_path / "ratings_final.npy").write_bytes(sink.getvalue())
    (tmp_path / "kg_final.txt").write_text("0\t0\t5\n")
    return tmp_path


def test_negatives_are_counted_but_stay_in_the_catalogue(tmp_path: Path) -> None:
    graph, report = KGCN().read_with_report(_ratings(tmp_path, [[0, 1, 1], [0, 2, 0], [1, 1, 0]]))
    assert _pairs(graph) == [("user:0", "item:1", "unsplit")]
    assert (graph.ids_of("Item"), graph.ids_of("User")) == (["item:1", "item:2"], ["user:0", "user:1"])
    assert report.dropped == {"interactions": {"negative": 2}}
    assert report.kept() == {"interactions": 1, "triples": 1}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[0, 1]], r"int64 of shape \(1, 2\); expected whole numbers \(n, 3\)"),
        ([[0.5, 1, 1]], "holds float64 of shape"),
    ],
)
def test_an_array_of_another_form_is_named(tmp_path: Path, rows: object, said: str) -> None:
    with pytest.raises(FileFormatError, match=said):
        KGCN().read(_ratings(tmp_path, rows))


def test_an_array_file_of_another_kind_is_named(tmp_path: Path) -> None:
    folder = _ratings(tmp_path, [[0, 1, 1]])
    (folder / "ratings_final.npy").write_bytes(b"no array")
    with pytest.raises(FileFormatError, match="ratings_final.npy` is no NumPy array file"):
        KGCN().read(folder)


def test_raw_ratings_go_through_the_item_list(tmp_path: Path) -> None:
    files = {
        "raw.dat": "userID\titemID\tweight\n2\t52\t11\n2\t99\t1\n3\t51\t0\n",
        "item_index2entity_id.txt": "51\t0\r\n52\t1\r\n",
        "kg.txt": "1\tmusic.artist.origin\t2\r\n",
    }
    graph, report = KGCN(KGCN.Config(ratings="raw.dat")).read_with_report(_folder(tmp_path, files))
    assert [(r["user_id"], r["item_id"], r["value"]) for r in graph.interactions.to_pylist()] == [
        ("user:2", "item:52", 11)
    ]
    assert graph.triples.to_pylist()[0]["head"] == "item:52"
    assert report.dropped == {"interactions": {"item_without_entity": 1, "negative": 1}}


def test_raw_ratings_need_the_item_list(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="holds no `item_index2entity_id.txt` or `item_list.txt`"):
        KGCN(KGCN.Config(ratings="raw.dat")).read(_folder(tmp_path, {"raw.dat": "u\ti\tw\n1\t1\t1\n"}))
