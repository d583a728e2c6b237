"""RecBole atomic files: NAME.inter, .user, .item, .kg and .link in one folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from kg.assemble import Assembly, check_ids, entity_ids, entity_table, prefixed, raw_id
from kg.delimited import TextTable, locate, one_line, read_delimited, require, write_columns
from kg.errors import FileFormatError, did_you_mean
from kg.files import atomic_directory
from kg.graph import Graph
from kg.source import ReadReport, Source, left_out
from kg.terms import ITEM, SPLITS, UNSPLIT, USER

_TYPES = ("token", "token_seq", "float", "float_seq")
_NAMES = ("name", "movie_title", "title", "item_name", "artist_name")
_LABELS = {"release_year": "year", "class": "genres"}


class RecBole(Source, name="recbole"):
    """A folder of RecBole atomic files; all but `.inter` are optional.

    An entity that `.link` joins to an item *is* that item: its triples hang on `item:...`. The first title-like column
    of `.item` becomes the item's name; all columns together become its text, and those of `.user` the user's. RecBole's
    split files (NAME.train.inter, .valid.inter, .test.inter) are read as the given split.

    Written files hold interactions with their split, users and items with name and text, and triples; not the
    confidence and source of triples, nor the names of other entities.
    """

    @dataclass(frozen=True)
    class Config:
        """What the files and columns are called.

        Attributes:
            name: NAME of the files; empty takes the only one in the folder.
            user: column of users.
            item: column of items.
            timestamp: column of times in seconds; a fraction is cut off. Not needed in the files.
            value: column of ratings or counts. Not needed in the files.
            item_name: column of `.item` that names an item; empty takes the first title-like one.
            skip: columns of `.user` and `.item` that stay out of the text.
        """

        name: str = ""
        user: str = "user_id"
        item: str = "item_id"
        timestamp: str = "timestamp"
        value: str = "rating"
        item_name: str = ""
        skip: tuple[str, ...] = ("zip_code",)

    config: Config

    def read_with_report(self, path: Path) -> tuple[Graph, ReadReport]:
        """Read a folder of atomic files; see `Source.read_with_report`."""
        folder, c = Path(path), self.config
        name = c.name or _only_name(folder)
        made = Assembly(name)
        for split, file in _interaction_files(folder, name):
            made.interactions.append(self._interactions(_read_atomic(file), split))
        for entity_type, key, name_column in ((USER, c.user, ""), (ITEM, c.item, c.item_name)):
            described = locate(folder, f"{name}.{entity_type.lower()}")
            if described is not None:
                made.describe(self._described(_read_atomic(described), key, entity_type, name_column))
        self._facts(made, folder, name)
        return made.finish()

    def _interactions(self, table: TextTable, split: str) -> pa.Table:
        c, n = self.config, len(table.cells)
        columns = {
            "user_id": prefixed("user", table.column(c.user)),
            "item_id": prefixed("item", table.column(c.item)),
            "split": pa.repeat(pa.scalar(split), n),
        }
        if c.timestamp in table.cells.column_names:
            columns["timestamp"] = table.seconds(c.timestamp)
        if c.value in table.cells.column_names:
            columns["value"] = table.numbers(c.value, pa.float64())
        return pa.table(columns)

    def _described(self, table: TextTable, key: str, entity_type: str, name_column: str) -> pa.Table:
        ids = prefixed(entity_type.lower(), table.column(key))
        check_ids(table.path, key, ids)
        name_column = name_column or next((n for n in _NAMES if n in table.cells.column_names), "")
        names = table.column(name_column).to_pylist() if name_column else None
        others = [n for n in table.cells.column_names if n not in (key, name_column, *self.config.skip)]
        return entity_table(ids, entity_type, names, _texts(table, names, others))

    def _facts(self, made: Assembly, folder: Path, name: str) -> None:
        file = locate(folder, f"{name}.kg")
        if file is None:
            return
        table = _read_atomic(file)
        linked = self._links(made, folder, name)
        ends = {end: _resolve(entity_ids(table.column(f"{end}_id")), linked) for end in ("head", "tail")}
        made.triples.append(pa.table({**ends, "relation": _filled(table.column("relation_id"))}))

    def _links(self, made: Assembly, folder: Path, name: str) -> dict[str, str]:
        file = locate(folder, f"{name}.link")
        if file is None:
            return {}
        table = _read_atomic(file)
        items = prefixed("item", table.column(self.config.item)).to_pylist()
        entities = entity_ids(table.column("entity_id")).to_pylist()
        known = {i for t in made.interactions for i in pc.unique(t["item_id"]).to_pylist()}
        known |= {i for t in made.entities for i in t["entity_id"].to_pylist()}
        linked: dict[str, str] = {}
        made.count("links", len(items))
        for item, entity in zip(items, entities, strict=True):
            if item is None or entity is None:
                made.drop("links", "no_id", 1)
            elif item not in known:
                made.drop("links", "unknown_item", 1)
            elif linked.setdefault(entity, item) != item:
                made.drop("links", "entity_of_another_item", 1)
        return linked

    def write(self, graph: Graph, path: Path) -> dict[str, int]:
        """Write a folder of atomic files named after it; see `Source.write`."""
        name = self.config.name or Path(path).resolve().name
        graph = graph.canonical()
        with atomic_directory(path) as folder:
            _write_interactions(graph, folder, name)
            for entity_type, suffix in ((USER, "user"), (ITEM, "item")):
                _write_entities(graph, entity_type, folder / f"{name}.{suffix}")
            if len(graph.triples):
                _write_facts(graph, folder, name)
        return left_out(graph, "interactions", "triples")


def _only_name(folder: Path) -> str:
    if not folder.is_dir():
        msg = f"`{folder}` is no directory; give the folder that holds the NAME.inter file"
        raise FileFormatError(msg)
    files = sorted(p.name.removesuffix(".gz") for p in folder.iterdir() if ".inter" in p.suffixes)
    names = sorted({_without_split(f.removesuffix(".inter")) for f in files})
    if len(names) == 1:
        return names[0]
    msg = f"`{folder}` holds {len(names)} sets of `.inter` files ({', '.join(names)}); " + (
        "set `name` to one of them" if names else "give the folder that holds the NAME.inter file"
    )
    raise FileFormatError(msg)


def _without_split(stem: str) -> str:
    name, dot, last = stem.rpartition(".")
    return name if dot and last in SPLITS else stem


def _interaction_files(folder: Path, name: str) -> list[tuple[str, Path]]:
    given = [(split, locate(folder, f"{name}.{split}.inter")) for split in SPLITS]
    found = [(split, file) for split, file in given if file is not None]
    return found or [(UNSPLIT, require(folder, f"{name}.inter"))]


def _read_atomic(path: Path) -> TextTable:
    table = read_delimited(path, "\t")
    names = []
    for title in table.cells.column_names:
        column, _, kind = title.partition(":")
        if kind not in _TYPES:
            msg = (
                f"`{path}`, line 1: column `{title}` has the type `{kind}`; {did_you_mean(kind, _TYPES)} "
                "Write the header as `name:type`, separated by tabs"
            )
            raise FileFormatError(msg)
        names.append(column)
    return TextTable(path, table.cells.rename_columns(names), table.data, table.n_header)


def _texts(table: TextTable, names: Sequence[str] | None, others: Sequence[str]) -> list[str]:
    if "text" in others:
        return list(table.column("text").to_pylist())
    titles = names if names is not None else [""] * len(table.cells)
    columns = [(_LABELS.get(n, n).replace("_", " "), table.column(n).to_pylist()) for n in others]
    return [
        ". ".join(filter(None, (title, *(f"{label}: {cells[row]}" for label, cells in columns if cells[row]))))
        for row, title in enumerate(titles)
    ]


def _filled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(column, ""), None, column)


def _resolve(ids: pa.ChunkedArray, same_as: Mapping[str, str]) -> pa.ChunkedArray:
    if not same_as:
        return ids
    place = pc.index_in(ids, value_set=pa.array(list(same_as), pa.string()))
    return pc.coalesce(pa.array(list(same_as.values()), pa.string()).take(place), ids)


def _write_interactions(graph: Graph, folder: Path, name: str) -> None:
    table = graph.interactions
    titles = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    for split in pc.unique(table["split"]).to_pylist() or [UNSPLIT]:
        part = table.filter(pc.equal(table["split"], split))
        columns = [
            [raw_id(i, USER) for i in part["user_id"].to_pylist()],
            [raw_id(i, ITEM) for i in part["item_id"].to_pylist()],
            ["" if v is None else repr(v) for v in part["value"].to_pylist()],
            ["" if t is None else str(t) for t in part["timestamp"].to_pylist()],
        ]
        file = f"{name}.inter" if split == UNSPLIT else f"{name}.{split}.inter"
        _write_atomic(folder / file, titles, columns)


def _write_entities(graph: Graph, entity_type: str, path: Path) -> None:
    chosen = graph.entities.filter(pc.equal(graph.entities["type"], entity_type))
    key = f"{entity_type.lower()}_id:token"
    ids = [raw_id(i, entity_type) for i in chosen["entity_id"].to_pylist()]
    columns = [ids, one_line(chosen["name"].to_pylist()), one_line(chosen["text"].to_pylist())]
    _write_atomic(path, [key, "name:token_seq", "text:token_seq"], columns)


def _write_facts(graph: Graph, folder: Path, name: str) -> None:
    facts = graph.triples.group_by(["head", "relation", "tail"], use_threads=False).aggregate([])
    columns = [facts[c].to_pylist() for c in ("head", "relation", "tail")]
    _write_atomic(folder / f"{name}.kg", ["head_id:token", "relation_id:token", "tail_id:token"], columns)
    items = graph.ids_of(ITEM)
    _write_atomic(
        folder / f"{name}.link", ["item_id:token", "entity_id:token"], [[raw_id(i, ITEM) for i in items], items]
    )


def _write_atomic(path: Path, titles: Sequence[str], columns: Sequence[Sequence[str]]) -> None:
    write_columns(path, columns, titles=titles, delimiter="\t")
