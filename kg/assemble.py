"""From the columns of any source to a `Graph`: ids, duplicates, entities that only rows name, and the counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from kg.errors import DuplicateIdError, FileFormatError, first_five
from kg.graph import Graph
from kg.source import ReadReport
from kg.tables import TABLES
from kg.terms import DATASET, ITEM, SPLITS, UNSPLIT, USER

ENTITY = "Entity"
"""Type of an entity that only triples name."""

_RANK = {split: rank for rank, split in enumerate((*SPLITS, UNSPLIT))}


def prefixed(prefix: str, raw: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Put `prefix:` before raw ids; an empty or missing id becomes null."""
    joined = pc.binary_join_element_wise(prefix, raw.cast(pa.string()), ":")
    return pc.if_else(pc.equal(pc.fill_null(raw.cast(pa.string()), ""), ""), None, joined)


def entity_ids(raw: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Put `entity:` before raw ids that are not qualified; an id with a colon (an IRI, `genre:comedy`) is kept."""
    return pc.if_else(pc.match_substring(raw, ":"), raw, prefixed("entity", raw))


def entity_id(raw: str) -> str:
    """Put `entity:` before one raw id that is not qualified; see `entity_ids`."""
    return raw if ":" in raw else f"entity:{raw}"


def raw_id(entity_id: str, entity_type: str) -> str:
    """Return the id of a user or item without the prefix of its type, as files hold it."""
    return entity_id.removeprefix(f"{entity_type.lower()}:")


def readable_name(entity_id: str) -> str:
    """Return the readable end of an id.

    Example:
        >>> readable_name("http://dbpedia.org/resource/Drums_of_Autumn"), readable_name("entity:m.0abc")
        ('Drums of Autumn', 'm.0abc')
    """
    if "://" in entity_id:
        last = entity_id.rstrip("/#").replace("#", "/").rpartition("/")[2]
        return unquote(last).replace("_", " ") or entity_id
    return entity_id.partition(":")[2] or entity_id


def entity_table(
    ids: pa.Array | pa.ChunkedArray,
    entity_type: str,
    names: Sequence[str | None] | None = None,
    texts: Sequence[str | None] | None = None,
) -> pa.Table:
    """Describe entities of one type; an absent name is the readable end of the id."""
    plain = ids.to_pylist()
    named = [name or readable_name(i) for i, name in zip(plain, names or [None] * len(plain), strict=True)]
    columns = [plain, [entity_type] * len(plain), named, [t or None for t in texts] if texts else [None] * len(plain)]
    return pa.table(columns, schema=TABLES["entities"].schema)


def check_ids(path: Path, column: str, ids: pa.Array | pa.ChunkedArray) -> None:
    """Check that every row of a file defines an id, and each id once.

    Raises:
        FileFormatError: if an id is empty.
        DuplicateIdError: naming the file, the column and the first five ids that occur more than once.
    """
    if ids.null_count:
        msg = f"`{path}`, column `{column}`: {ids.null_count} rows have no id; remove them or give each its id"
        raise FileFormatError(msg)
    counts = pc.value_counts(ids)
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        msg = (
            f"`{path}`, column `{column}`: {len(twice)} ids occur more than once: {first_five(twice.to_pylist())}; "
            "keep one line of each"
        )
        raise DuplicateIdError(msg)


@dataclass
class Assembly:
    """Collects what a source reads, then makes the graph and the report.

    Attributes:
        dataset: name of the data set; the source of every fact is `dataset:NAME`.
        interactions: tables with user_id, item_id and optionally timestamp, value, split.
        triples: tables with head, relation, tail.
        entities: tables as `entity_table` makes them, added by `describe`.
        read: further kinds of rows that were read, e.g. links.
        dropped: kind of row -> reason -> rows that the source itself dropped; `drop` counts them.
    """

    dataset: str
    interactions: list[pa.Table] = field(default_factory=list)
    triples: list[pa.Table] = field(default_factory=list)
    entities: list[pa.Table] = field(default_factory=list)
    read: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)

    def describe(self, table: pa.Table) -> None:
        """Add described entities; one that is described already keeps its first description."""
        self.entities.append(_without(table, "entity_id", self.entities))

    def drop(self, kind: str, reason: str, n: int) -> None:
        """Count rows that do not reach the graph."""
        if n:
            reasons = self.dropped.setdefault(kind, {})
            reasons[reason] = reasons.get(reason, 0) + int(n)

    def count(self, kind: str, n: int) -> None:
        """Count rows that were read."""
        self.read[kind] = self.read.get(kind, 0) + n

    def finish(self) -> tuple[Graph, ReadReport]:
        """Drop rows without an id and repeated rows, add entities that only rows name, and validate."""
        tables: dict[str, pa.Table] = {}
        if self.interactions:
            tables["interactions"] = self._interactions()
        if self.triples:
            tables["triples"] = self._triples()
        tables["entities"] = self._entities(tables)
        tables["sources"] = pa.table({"source": [f"dataset:{self.dataset}"], "kind": [DATASET]})
        return Graph.from_tables(**tables), ReadReport(self.read, self.dropped)

    def _interactions(self) -> pa.Table:
        table = pa.concat_tables([_with_defaults(t) for t in self.interactions])
        self.count("interactions", len(table))
        table = self._identified("interactions", table, ("user_id", "item_id"))
        kept = _first_of_each_pair(table)
        self.drop("interactions", "duplicate", len(table) - len(kept))
        return table.take(kept) if len(kept) < len(table) else table

    def _triples(self) -> pa.Table:
        table = pa.concat_tables([t.select(["head", "relation", "tail"]) for t in self.triples])
        self.count("triples", len(table))
        table = self._identified("triples", table, ("head", "relation", "tail"))
        codes = pd.DataFrame({c: _codes(table[c])[0] for c in table.column_names})
        twice = codes.duplicated().to_numpy()
        self.drop("triples", "duplicate", int(twice.sum()))
        table = table.filter(pa.array(~twice))
        table = table.append_column("confidence", pa.array(np.ones(len(table))))
        return table.append_column("source", pa.repeat(pa.scalar(f"dataset:{self.dataset}"), len(table)))

    def _identified(self, kind: str, table: pa.Table, columns: Sequence[str]) -> pa.Table:
        missing = sum(table[c].null_count for c in columns)
        if not missing:
            return table
        whole = table.filter(pc.invert(_any_null([table[c] for c in columns])))
        self.drop(kind, "no_id", len(table) - len(whole))
        return whole

    def _entities(self, tables: Mapping[str, pa.Table]) -> pa.Table:
        found = list(self.entities)
        if "interactions" in tables:
            for entity_type, column in ((USER, "user_id"), (ITEM, "item_id")):
                found.append(_undescribed(pc.unique(tables["interactions"][column]), entity_type, found))
        if "triples" in tables:
            ends = pc.unique(pa.concat_arrays([tables["triples"][end].combine_chunks() for end in ("head", "tail")]))
            found.append(_undescribed(ends, ENTITY, found))
        return pa.concat_tables(found) if found else TABLES["entities"].schema.empty_table()


def _without(table: pa.Table, column: str, described: Sequence[pa.Table]) -> pa.Table:
    for known in described:
        table = table.filter(pc.invert(pc.is_in(table[column], value_set=known["entity_id"].combine_chunks())))
    return table


def _undescribed(ids: pa.Array, entity_type: str, described: Sequence[pa.Table]) -> pa.Table:
    return entity_table(_without(pa.table({"entity_id": ids}), "entity_id", described)["entity_id"], entity_type)


def _with_defaults(table: pa.Table) -> pa.Table:
    fields = TABLES["interactions"].schema
    n = len(table)
    columns = []
    for spec in fields:
        if spec.name in table.column_names:
            columns.append(table[spec.name].cast(spec.type))
        elif spec.name == "split":
            columns.append(pa.repeat(pa.scalar(UNSPLIT), n))
        else:
            columns.append(pa.nulls(n, spec.type))
    return pa.table(columns, names=fields.names)


def _any_null(columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    found = pc.is_null(columns[0])
    for column in columns[1:]:
        found = pc.or_(found, pc.is_null(column))
    return found


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray, int]:
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), len(encoded.dictionary)


def _first_of_each_pair(table: pa.Table) -> np.ndarray:
    users, _ = _codes(table["user_id"])
    items, n_items = _codes(table["item_id"])
    pairs = users * n_items + items
    times = pc.fill_null(table["timestamp"], np.iinfo(np.int64).max).to_numpy()
    ranks = pc.index_in(table["split"], value_set=pa.array(list(_RANK))).to_numpy()
    order = np.lexsort((ranks, times))  # stable: rows of equal time and split stay in file order
    first = np.unique(pairs[order], return_index=True)[1]
    return np.sort(order[first])
