import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kg.config import build_config
from kg.errors import ConfigError, DuplicateIdError, FileFormatError, WriteError
from kg.graph import Graph
from kg.sources.table import Table
from tests.toy import toy_graph

CSV = 'who,what,when,stars,part\nu1,i1,10,4.5,train\n"u,2","i""2",20,,test\n'
MAPPED = {"user": "who", "item": "what", "timestamp": "when", "value": "stars", "split": "part"}


def _file(folder: Path, text: str, name: str = "log.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def _read(path: Path, **config: Any) -> Graph:
    return Table(build_config(Table.Config, {**MAPPED, **config})).read(path)


def test_mapped_columns_of_a_quoted_csv(tmp_path: Path) -> None:
    assert [tuple(r.values()) for r in _read(_file(tmp_path, CSV)).interactions.to_pylist()] == [
        ("user:u1", "item:i1", 10, 4.5, "train"),
        ("user:u,2", 'item:i"2', 20, None, "test"),
    ]


def test_parquet_with_numbers_dates_and_nulls(tmp_path: Path) -> None:
    when = [datetime.datetime(1970, 1, 1, 0, 1), datetime.datetime(1970, 1, 2), None]
    rows = {"who": [1, 2, None], "what": [7, 7, 7], "when": when, "stars": [1, 2, 3], "part": ["train"] * 3}
    pq.write_table(pa.table(rows), tmp_path / "log.parquet")
    source = Table(Table.Config(**MAPPED))
    graph, report = source.read_with_report(tmp_path / "log.parquet")
    assert [tuple(r.values())[:4] for r in graph.interactions.to_pylist()] == [
        ("user:1", "item:7", 60, 1.0),
        ("user:2", "item:7", 86_400, 2.0),
    ]
    assert report.dropped == {"interactions": {"no_id": 1}}


@pytest.mark.parametrize(("cell", "seconds"), [("10.9", 10), ("1970-01-02T00:00:01", 86_401), ("-5", -5)])
def test_times_in_several_writings(tmp_path: Path, cell: str, seconds: int) -> None:
    graph = _read(_file(tmp_path, f"who,what,when,stars,part\nu,i,{cell},1,train\n"))
    assert graph.interactions["timestamp"].to_pylist() == [seconds]


def test_items_beside_the_interactions(tmp_path: Path) -> None:
    _file(tmp_path, 'asin,title,brand,price\ni1,"Rain, and night",Acme,3\ni9,,,\n', "items.csv")
    graph = _read(
        _file(tmp_path, CSV), items="items.csv", item_id="asin", item_name="title", item_text=["title", "brand"]
    )
    rows = {r["entity_id"]: (r["name"], r["text"]) for r in graph.entities.to_pylist() if r["type"] == "Item"}
    assert rows == {
        "item:i1": ("Rain, and night", "Rain, and night. Acme"),
        "item:i9": ("i9", None),
        'item:i"2': ('i"2', None),
    }


@pytest.mark.parametrize("name", ["toy.csv", "toy.tsv", "toy.parquet"])
def test_what_was_written_comes_back(name: str, tmp_path: Path) -> None:
    toy = toy_graph()
    Table().write(toy, tmp_path / name)
    stem, suffix = name.split(".")
    config = Table.Config(
        timestamp="timestamp",
        value="value",
        split="split",
        items=f"{stem}.items.{suffix}",
        item_name="name",
        item_text=("text",),
    )
    back = Table(config).read(tmp_path / name).canonical()
    assert back.interactions.equals(toy.canonical().interactions)
    items = [[r for r in g.canonical().entities.to_pylist() if r["type"] == "Item"] for g in (back, toy)]
    assert items[0] == items[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('"who\n",what\nu,i\n', 'log.csv`, line 1: `"who` is no header; name every column on one line'),
        ("who,what\nu,i\n", "log.csv` has no column `when`;.*Known: what, who"),
        ("who,what,when,stars,part\nu,i,1,good,train\n", "row 1, column `stars`: `good` is not a number"),
        ("who,what,when,stars,part\nu,i,1,1,dev\n", "column `part` has `dev`;.*Known: test, train"),
        ("who,what,when,stars,part\nu,i,2014-13-77,1,train\n", "column `when`: .*expected seconds or ISO dates"),
        ("who,what,when,stars,part\nu,i,1,1,train\nu,i,1\n", "row 2: 3 columns, expected 5"),
    ],
)
def test_a_bad_table_is_named_with_its_row(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(FileFormatError, match=said):
        _read(_file(tmp_path, text))


def test_a_parquet_cell_of_a_wrong_type_is_named(tmp_path: Path) -> None:
    rows = {"who": ["u"], "what": ["i"], "when": [1], "stars": [["x"]], "part": ["train"]}
    pq.write_table(pa.table(rows), tmp_path / "log.parquet")
    with pytest.raises(FileFormatError, match=r"row 1, column `stars`: `\['x'\]` is not a number"):
        _read(tmp_path / "log.parquet")
    with pytest.raises(FileFormatError, match="column `stars` holds list.*expected texts or numbers that name a user"):
        _read(tmp_path / "log.parquet", user="stars")


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="log.parquet` is not readable Parquet"):
        _read(_file(tmp_path, CSV, "log.parquet"))


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="log.json` is neither .csv, .tsv nor .parquet"):
        _read(_file(tmp_path, "[]", "log.json"))


def test_an_item_that_is_defined_twice_is_named(tmp_path: Path) -> None:
    _file(tmp_path, "item_id\ni1\ni1\n", "items.csv")
    with pytest.raises(DuplicateIdError, match="items.csv`, column `item_id`: 1 ids occur more than once: `item:i1`"):
        _read(_file(tmp_path, CSV), items="items.csv")


def test_users_and_items_need_a_column() -> None:
    with pytest.raises(ConfigError, match="`item` is empty; name the column that holds the item ids"):
        Table.Config(item="")


def test_an_items_file_in_the_way_stops_everything(tmp_path: Path) -> None:
    _file(tmp_path, "x", "toy.items.csv")
    with pytest.raises(WriteError, match="toy.items.csv` exists already"):
        Table().write(toy_graph(), tmp_path / "toy.csv")
    assert not (tmp_path / "toy.csv").exists()


def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "log.csv").mkdir()
    with pytest.raises(FileFormatError, match="log.csv` is a directory; give the path of a file"):
        _read(tmp_path / "log.csv")
