"""KGCN lists: rating triples `user item label` and a knowledge graph, as RippleNet, KGCN, CKAN and MCCLK use them."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kg.assemble import Assembly, entity_table, prefixed, raw_id
from kg.delimited import locate, plain_name, read_bytes, read_delimited, require, write_columns
from kg.errors import FileFormatError
from kg.files import atomic_directory
from kg.graph import Graph
from kg.ids import IdMap
from kg.remap import Ints, Remap, read_remap, write_remap
from kg.source import ReadReport, Source, left_out
from kg.sources.kgat import read_numbered_facts, write_numbered_facts
from kg.sources.lightgcn import describe_listed
from kg.terms import ITEM, USER

_RATINGS = ("ratings_final.txt", "ratings_final.npy")
_COLUMNS = ("user", "item", "label")


class KGCN(Source, name="kgcn"):
    """A folder with ratings_final (.txt or .npy) and kg_final.txt or kg.txt; the number of an item is its entity's.

    Rows with a label of at least `positive_from` are interactions; the rest (sampled negatives) is counted as
    `negative`, but its users and items stay in the catalogue. item_index2entity_id.txt (raw item, number) gives items
    their raw ids; with it, `ratings` may name a raw file with a header, whose items without an entity are counted as
    `item_without_entity` and whose third column becomes the value. Lists as `kgat` has them are used where present.

    Written folders hold users, items, pairs and triples, not the split, time and value of pairs, the confidence and
    source of triples, texts, or the types of other entities.
    """

    @dataclass(frozen=True)
    class Config:
        """Which files to read.

        Attributes:
            name: of the data set; empty takes the name of the folder.
            ratings: a raw ratings file with a header (user, item, value); empty takes ratings_final.
            positive_from: least label or value that makes an interaction.
        """

        name: str = ""
        ratings: str = ""
        positive_from: float = 1.0

    config: Config

    def read_with_report(self, path: Path) -> tuple[Graph, ReadReport]:
        """Read ratings and triples; see `Source.read_with_report`."""
        folder, c = Path(path), self.config
        made = Assembly(c.name or plain_name(folder))
        items = _items(folder, needed=bool(c.ratings))
        file = require(folder, *([c.ratings] if c.ratings else _RATINGS))
        describe_listed(made, items, ITEM)
        if c.ratings:
            rows, numbers = _raw_ratings(made, file, items), np.array(list(items.raw), dtype=np.int64)
        else:
            rows, numbers = _final_ratings(made, file, items, read_remap(locate(folder, "user_list.txt")))
        positive = pc.greater_equal(rows["label"], c.positive_from)
        pairs = rows.filter(positive)
        made.count("interactions", len(rows) - len(pairs))
        made.drop("interactions", "negative", len(rows) - len(pairs))
        made.interactions.append(pairs.rename_columns({"label": "value"}) if c.ratings else pairs.drop(["label"]))
        kg = require(folder, "kg_final.txt", "kg.txt")
        facts = read_delimited(kg, columns=["head", "relation", "tail"], header=False)
        read_numbered_facts(made, folder, facts, numbers, items)
        return made.finish()

    def write(self, graph: Graph, path: Path) -> dict[str, int]:
        """Write every interaction as a row with label 1, and the triples; see `Source.write`."""
        items, users = IdMap.sorted(graph.ids_of(ITEM)), IdMap.sorted(graph.ids_of(USER))
        pairs = graph.interactions.sort_by([("user_id", "ascending"), ("item_id", "ascending")])
        rows = [users.to_idx(pairs["user_id"].to_pylist()), items.to_idx(pairs["item_id"].to_pylist())]
        columns = [*([str(n) for n in row] for row in rows), ["1"] * len(pairs)]
        with atomic_directory(path) as folder:
            write_columns(folder / "ratings_final.txt", columns, titles=(), delimiter="\t")
            write_remap(folder / "user_list.txt", [raw_id(u, USER) for u in users.ids])
            write_numbered_facts(folder, graph, items)
        return left_out(graph, "interactions", "triples")


def _items(folder: Path, *, needed: bool) -> Remap:
    return read_remap((require if needed else locate)(folder, "item_index2entity_id.txt", "item_list.txt"))


def _raw_ratings(made: Assembly, file: Path, items: Remap) -> pa.Table:
    table = read_delimited(file, "\t", _COLUMNS)
    known = pc.is_in(table.column("item"), value_set=pa.array(list(items.raw.values()), pa.string()))
    columns = [prefixed(p, table.column(p)) for p in ("user", "item")]
    rows = pa.table([*columns, table.numbers("label", pa.float64())], names=["user_id", "item_id", "label"])
    kept = rows.filter(known)
    made.count("interactions", len(rows) - len(kept))
    made.drop("interactions", "item_without_entity", len(rows) - len(kept))
    return kept


def _final_ratings(made: Assembly, file: Path, items: Remap, users: Remap) -> tuple[pa.Table, Ints]:
    user, item, label = _read_npy(file) if ".npy" in file.suffixes else _read_txt(file)
    rows = pa.table(
        {
            "user_id": users.ids(user, lambda raw: f"user:{raw}", file),
            "item_id": items.ids(item, lambda raw: f"item:{raw}", file),
            "label": label.astype(np.float64),
        }
    )
    for column, entity_type in (("user_id", USER), ("item_id", ITEM)):
        made.describe(entity_table(pc.unique(rows[column]), entity_type))
    return rows, np.union1d(item, np.array(list(items.raw), dtype=np.int64))


def _read_txt(file: Path) -> tuple[Ints, Ints, Ints]:
    table = read_delimited(file, columns=_COLUMNS, header=False)
    user, item, label = (table.integers(column) for column in _COLUMNS)
    return user, item, label


def _read_npy(file: Path) -> tuple[Ints, Ints, Ints]:
    try:
        rows = np.load(io.BytesIO(read_bytes(file)), allow_pickle=False)
    except ValueError as error:
        msg = f"`{file}` is no NumPy array file ({error}); save it by `numpy.save`"
        raise FileFormatError(msg) from error
    if rows.ndim != 2 or rows.shape[1] != 3 or rows.dtype.kind not in "iu":
        msg = f"`{file}` holds {rows.dtype} of shape {rows.shape}; expected whole numbers (n, 3): user, item, label"
        raise FileFormatError(msg)
    user, item, label = rows.astype(np.int64).T
    return user, item, label
