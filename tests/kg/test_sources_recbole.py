from pathlib import Path

import pytest

from kg.errors import DuplicateIdError, FileFormatError, WriteError
from kg.graph import Graph
from kg.source import ReadReport
from kg.sources.recbole import RecBole
from tests.toy import toy_graph

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"


def _folder(tmp_path: Path, **files: str) -> Path:
    for suffix, text in files.items():
        (tmp_path / f"set.{suffix}").write_text(text, encoding="utf-8")
    return tmp_path


def _read(tmp_path: Path, **files: str) -> tuple[Graph, ReadReport]:
    return RecBole().read_with_report(_folder(tmp_path, **files))


def test_of_a_repeated_pair_the_earliest_is_kept_and_the_rest_counted(tmp_path: Path) -> None:
    graph, report = _read(tmp_path, inter=f"{INTER}1\t1\t5\t30\n1\t1\t2\t10\n1\t2\t4\t20\n1\t1\t3\t\n")
    assert [(r["item_id"], r["value"], r["timestamp"]) for r in graph.interactions.to_pylist()] == [
        ("item:1", 2.0, 10),
        ("item:2", 4.0, 20),
    ]
    assert report.dropped == {"interactions": {"duplicate": 2}}
    assert str(report) == "read 4 interactions; dropped 2 interactions (duplicate)"


def test_rows_without_an_id_are_counted(tmp_path: Path) -> None:
    graph, report = _read(
        tmp_path,
        inter=f"{INTER}1\t\t5\t30\n1\t2\t2\t10\n",
        kg="head_id:token\trelation_id:token\ttail_id:token\na\tr\t\na\tr\tb\na\tr\tb\n",
    )
    assert report.dropped == {"interactions": {"no_id": 1}, "triples": {"no_id": 1, "duplicate": 1}}
    assert (len(graph.interactions), len(graph.triples)) == (1, 1)


def test_links_join_entities_to_items_and_the_others_are_counted(tmp_path: Path) -> None:
    graph, report = _read(
        tmp_path,
        inter=f"{INTER}1\t1\t5\t30\n1\t2\t5\t31\n",
        kg="head_id:token\trelation_id:token\ttail_id:token\nm.1\tgenre\tm.9\nm.7\tgenre\tm.9\nhttp://x.org/a\tgenre\tm.9\n",
        link="item_id:token\tentity_id:token\n1\tm.1\n99\tm.7\n2\tm.1\n2\t\n",
    )
    heads = graph.triples["head"].to_pylist()
    assert heads == ["item:1", "entity:m.7", "http://x.org/a"]
    assert report.dropped == {"links": {"unknown_item": 1, "entity_of_another_item": 1, "no_id": 1}}


def test_users_items_and_entities_of_one_raw_id_stay_apart(tmp_path: Path) -> None:
    graph, _ = _read(
        tmp_path,
        inter=f"{INTER}1\t1\t5\t30\n",
        kg="head_id:token\trelation_id:token\ttail_id:token\n1\tr\t2\n",
    )
    assert sorted(graph.entities["entity_id"].to_pylist()) == ["entity:1", "entity:2", "item:1", "user:1"]


def test_split_files_are_the_given_split(tmp_path: Path) -> None:
    files = {f"{split}.inter": f"{INTER}1\t{n}\t5\t30\n" for n, split in enumerate(("train", "valid", "test"))}
    graph, _ = _read(tmp_path, **files)
    assert graph.interactions["split"].to_pylist() == ["train", "valid", "test"]


def test_texts_columns_and_names_can_be_chosen(tmp_path: Path) -> None:
    folder = _folder(
        tmp_path,
        inter="u:token\titem_id:token\n1\t1\n",
        item="item_id:token\tbrand:token\tprice:float\n1\tAcme\t3\n2\t\t\n",
    )
    graph = RecBole(RecBole.Config(user="u", item_name="brand", skip=())).read(folder)
    rows = {r["entity_id"]: (r["name"], r["text"]) for r in graph.entities.to_pylist()}
    assert rows == {"user:1": ("1", None), "item:1": ("Acme", "Acme. price: 3"), "item:2": ("2", None)}


def test_everything_but_confidence_and_source_comes_back(tmp_path: Path) -> None:
    toy = toy_graph()
    RecBole().write(toy, tmp_path / "toy")
    back = RecBole().read(tmp_path / "toy").canonical()
    assert back.interactions.equals(toy.canonical().interactions)
    kept = {"User", "Item"}
    mine, others = ([r for r in g.canonical().entities.to_pylist() if r["type"] in kept] for g in (back, toy))
    assert mine == others


def test_unicode_line_ends_and_tabs_in_a_text_do_not_break_a_row(tmp_path: Path) -> None:
    graph = Graph.from_rows(
        entities=[
            {"entity_id": "user:ü", "type": "User", "name": "ü"},
            {"entity_id": "item:夜", "type": "Item", "name": '„Nacht“ "x" 夜', "text": "one\ttwo\r\nthree"},
        ],
        interactions=[{"user_id": "user:ü", "item_id": "item:夜", "split": "unsplit"}],
    )
    RecBole().write(graph, tmp_path / "odd")
    back = RecBole().read(tmp_path / "odd")
    assert back.interactions.equals(graph.interactions)
    rows = {r["entity_id"]: (r["name"], r["text"]) for r in back.entities.to_pylist()}
    assert rows["item:夜"] == ('„Nacht“ "x" 夜', "one two three")


def test_a_graph_without_interactions_comes_back(tmp_path: Path) -> None:
    toy = toy_graph()
    RecBole().write(toy.replace(interactions=toy.interactions.slice(0, 0)), tmp_path / "toy")
    back = RecBole().read(tmp_path / "toy")
    assert (len(back.interactions), len(back.ids_of("User"))) == (0, 6)


def test_a_byte_order_mark_and_other_line_ends_are_no_matter(tmp_path: Path) -> None:
    (tmp_path / "set.inter").write_bytes(b"\xef\xbb\xbfuser_id:token\titem_id:token\r\n\r\n1\t2\r\n")
    assert RecBole().read(tmp_path).interactions["item_id"].to_pylist() == ["item:2"]


def test_an_id_with_a_tab_cannot_be_written(tmp_path: Path) -> None:
    rows = [{"entity_id": "item:a\tb", "type": "Item", "name": "x"}]
    with pytest.raises(WriteError, match=r"cannot write `odd.item`: `a\tb` holds a blank, tab or line end"):
        RecBole().write(Graph.from_rows(entities=rows), tmp_path / "odd")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"inter": "user_id:token\tthing:token\n1\t2\n"}, "set.inter` has no column `item_id`;.*Known: thing, user_id"),
        (
            {"inter": "user_id:token\titem_id:tokens\n1\t2\n"},
            "line 1: column `item_id:tokens` has the type `tokens`; did",
        ),
        ({"inter": "user_id\titem_id\n1\t2\n"}, "line 1: column `user_id` has the type ``"),
        ({"inter": f"{INTER}1\t1\t5\t3\n\n1\t2\tfive\t4\n"}, "line 4, column `rating`: `five` is not a number"),
        ({"inter": f"{INTER}1\t1\t5\tnoon\n"}, "line 2, column `timestamp`: `noon` is not a number"),
        (
            {"inter": f"{INTER}1\t1\t5\n"},
            r"line 2: 3 columns, expected 4 \(user_id:token, .*correct the line `1\t1\t5`",
        ),
        ({"inter": "a:token\ta:token\n1\t1\n"}, "names the column `a:token` more than once"),
        ({"user": "user_id:token\n1\n"}, "holds 0 sets of `.inter` files"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, files: dict[str, str], said: str) -> None:
    with pytest.raises(FileFormatError, match=said):
        _read(tmp_path, **files)


def test_two_sets_in_one_folder_ask_for_a_name(tmp_path: Path) -> None:
    folder = _folder(tmp_path, inter=f"{INTER}1\t1\t5\t30\n")
    (folder / "other.train.inter").write_text(f"{INTER}1\t1\t5\t30\n")
    with pytest.raises(FileFormatError, match=r"holds 2 sets of `.inter` files \(other, set\); set `name`"):
        RecBole().read(folder)
    assert len(RecBole(RecBole.Config(name="set")).read(folder).interactions) == 1


def test_a_named_set_that_is_absent_lists_what_is_there(tmp_path: Path) -> None:
    folder = _folder(tmp_path, inter=f"{INTER}1\t1\t5\t30\n")
    with pytest.raises(FileFormatError, match=r"holds no `sets.inter` \(nor with `.gz`\); it holds `set.inter`"):
        RecBole(RecBole.Config(name="sets")).read(folder)


def test_files_that_hold_nothing_but_a_header_are_read(tmp_path: Path) -> None:
    heads = {"inter": INTER, "kg": "head_id:token\trelation_id:token\ttail_id:token\n"}
    graph, report = _read(tmp_path, **heads, link="item_id:token\tentity_id:token\n")
    assert not any(n for table, n in graph.counts().items() if table != "sources")
    assert report.read == {"interactions": 0, "triples": 0, "links": 0}


def test_an_item_without_an_id_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="set.item`, column `item_id`: 1 rows have no id"):
        _read(tmp_path, inter=INTER, item="item_id:token\tname:token\n\ta\n")


def test_an_item_that_is_defined_twice_is_named(tmp_path: Path) -> None:
    with pytest.raises(DuplicateIdError, match="set.item`, column `item_id`: 1 ids occur more than once: `item:1`"):
        _read(tmp_path, inter=f"{INTER}1\t1\t5\t30\n", item="item_id:token\tname:token\n1\ta\n1\tb\n")
