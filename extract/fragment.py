"""From the rows that methods give to a graph fragment: checked, merged, with their sources."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

import pyarrow as pa

from extract.chain import Chain, storable
from extract.method import Facts, Method, Rejected
from extract.quotes import ReplySources
from extract.summary import Tally
from extract.template import Prompt
from kg.errors import SchemaError, did_you_mean
from kg.graph import Graph
from kg.tables import TABLES
from kg.terms import LLM

_FLUSH_AT = 20_000
_GIVEN = ("entities", "hyperedges", "members", "texts", "triples")
_ENTITY = ("entity_id", "type", "name", "text")
_REFERS = {
    "entities": (),
    "hyperedges": (),
    "members": ("entity_id",),
    "texts": ("entity_id",),
    "triples": ("head", "tail"),
}
_COUNTED_BY = {"entities": "type", "triples": "relation", "hyperedges": "relation", "members": "role", "texts": "kind"}
Row = dict[str, Any]


class _Column(NamedTuple):
    """What a column takes, in Python's types: Arrow's fields are slow to ask for it once per value."""

    name: str
    kind: type
    is_nullable: bool
    is_required: bool

    @classmethod
    def of(cls, field: pa.Field) -> Self:
        kind = str if field.type == pa.string() else int if pa.types.is_integer(field.type) else float
        return cls(field.name, kind, field.nullable, not field.nullable and field.name != "source")


_COLUMNS = {table: tuple(map(_Column.of, TABLES[table].schema)) for table in _GIVEN}
_HAS_SOURCE = frozenset(table for table in _GIVEN if "source" in TABLES[table].schema.names)


class Fragment:
    """Collects the facts of one reply after the other; the order of replies decides, never the time they came.

    Kept are rows whose values fit their table and whose endpoints are entities of the base graph or of a reply; all
    others are counted. Equal rows are merged; the first row under an id stands.

    Args:
        base: the data set; its entities may be referred to.
        method: gave the rows; named in their source.
        prompt: named in their source.
        model: named in their source.
    """

    def __init__(self, base: Graph, method: Method, prompt: Prompt, model: str) -> None:
        self._method, self._prompt, self._model = method.name, prompt, model
        columns = (base.entities[name].to_pylist() for name in _ENTITY)
        self._base = {row[0]: row for row in zip(*columns, strict=True)}
        self._used: dict[str, None] = {}
        self._types: dict[str, str] = {}
        self._hyperedges: set[str] = set()
        self._new_hyperedges: set[str] = set()
        self._with_members: set[str] = set()
        self._rows: dict[str, list[Row]] = defaultdict(list)
        self._chunks: dict[str, list[pa.Table]] = defaultdict(list)
        self.facts: dict[str, Counter[str]] = defaultdict(Counter)
        self.rejects = Tally()
        self.duplicates = 0
        self.grounded = 0

    def add(self, chain: Chain, facts: Facts) -> tuple[int, int]:
        """Take the facts of one valid reply.

        Args:
            chain: the unit and its reply.
            facts: what the method made of it.

        Returns:
            Facts kept (rows other than entities) and parts rejected.

        Raises:
            SchemaError: if the method gives a table or column that does not exist: its fault, whatever the reply says.
        """
        _check_tables(self._method, facts.rows)
        sources = ReplySources(self._source_row(chain), chain.unit)
        rejected = list(facts.rejected)
        self._new_hyperedges.clear()
        n_facts, used = 0, dict[str, None]()
        for table in _GIVEN:
            if table == "hyperedges":
                self._with_members = {m["hyperedge_id"] for m in facts.rows.get("members", []) if self._joins(m)}
            given = facts.rows.get(table)
            if not given:
                continue
            rows, refused = self._keep(table, given, sources)
            rejected += refused
            n_facts += len(rows) if table != "entities" else 0
            used |= dict.fromkeys(row["source"] for row in rows if table in _HAS_SOURCE)
            self._rows[table] += rows
        if n_facts:
            self._rows["sources"] += [sources.rows[source] for source in used or sources.rows]
        self.rejects.add(rejected)
        self.grounded += facts.n_grounded
        self._flush(_FLUSH_AT)
        return n_facts, len(rejected)

    def graph(self) -> Graph:
        """Return what was collected, with the base's entities that it refers to."""
        self._rows["entities"] += [dict(zip(_ENTITY, self._base[i], strict=True)) for i in self._used]
        self._flush(1)
        return Graph.from_tables(**{name: pa.concat_tables(chunks) for name, chunks in self._chunks.items()})

    def _keep(self, table: str, given: Iterable[Row], sources: ReplySources) -> tuple[list[Row], list[Rejected]]:
        kept: dict[tuple[Any, ...], Row] = {}
        rejected = []
        for one in given:
            row = sources.cite(one) if table in _HAS_SOURCE else one
            reason = self._refuse(table, row)
            if row is None or reason:
                rejected.append(Rejected(reason, f"{table}: {one}"))
                continue
            key = tuple(row.get(column) for column in TABLES[table].key)
            if key in kept or self._is_known(table, row):
                self.duplicates += 1
            else:
                kept[key] = row
        for row in kept.values():
            self._enter(table, row)
        return list(kept.values()), rejected

    def _refuse(self, table: str, row: Row | None) -> str:
        """Return why a row cannot stand; empty where it can."""
        if row is None or _is_misfit(table, row):
            return "quote_not_in_text" if row is None else "bad_row"
        if table == "entities":
            known = self._type_of(row["entity_id"])
            return "conflicting_type" if known not in (None, row["type"]) else ""
        if table == "hyperedges":
            return "" if row["hyperedge_id"] in self._with_members else "no_member"
        if table == "members" and row["hyperedge_id"] not in self._hyperedges:
            return "unknown_hyperedge"
        if table == "texts" and row["entity_id"] in self._hyperedges:
            return ""
        return "" if all(self._type_of(row[column]) for column in _REFERS[table]) else "unknown_entity"

    def _is_known(self, table: str, row: Row) -> bool:
        """Say whether an earlier reply, or the base, said this already."""
        if table == "entities":
            return self._type_of(row["entity_id"]) is not None
        if table == "hyperedges":
            return row["hyperedge_id"] in self._hyperedges
        return table == "members" and row["hyperedge_id"] not in self._new_hyperedges

    def _enter(self, table: str, row: Row) -> None:
        if table == "entities":
            self._types[row["entity_id"]] = row["type"]
        elif table == "hyperedges":
            self._hyperedges.add(row["hyperedge_id"])
            self._new_hyperedges.add(row["hyperedge_id"])
        self._used.update((row[c], None) for c in _REFERS[table] if row[c] in self._base)
        self.facts[table][row[_COUNTED_BY[table]]] += 1

    def _joins(self, member: Row) -> bool:
        return not _is_misfit("members", member) and self._type_of(member["entity_id"]) is not None

    def _type_of(self, entity_id: str) -> str | None:
        known = self._base.get(entity_id)
        return known[1] if known else self._types.get(entity_id)

    def _source_row(self, chain: Chain) -> Row:
        reply = chain.reply
        if reply is None:
            msg = f"unit `{chain.unit.unit_id}` has no valid reply; only units that have one give facts"
            raise ValueError(msg)
        sha = hashlib.sha256(reply.text.encode()).hexdigest()
        parts = (self._method, self._prompt.version, chain.unit.unit_id, reply.key, sha)
        return {
            "source": "llm:" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16],
            "kind": LLM,
            "model": self._model,
            "prompt": self._prompt.name,
            "prompt_version": self._prompt.version,
            "unit": chain.unit.unit_id,
            "reply": reply.text,
            "reply_sha": sha,
            "tokens": reply.n_prompt_tokens + reply.n_completion_tokens,
            "shown": [{"user_id": user, "item_id": item} for user, item in chain.unit.shown],
        }

    def _flush(self, at: int) -> None:
        for name, rows in self._rows.items():
            if len(rows) >= at:
                self._chunks[name].append(pa.Table.from_pylist(rows, schema=TABLES[name].schema))
                rows.clear()


def _check_tables(method: str, given: Mapping[str, list[Row]]) -> None:
    for table, rows in given.items():
        if table not in _GIVEN:
            msg = f"method `{method}` gives rows of the table `{table}`; {did_you_mean(table, _GIVEN)}"
            raise SchemaError(msg)
        columns = [column.name for column in _COLUMNS[table] if column.name != "source"]
        columns += ["quote"] if table == "triples" else []
        for column in sorted({c for row in rows for c in row}.difference(columns)):
            msg = f"method `{method}` gives the column `{column}` of `{table}`; {did_you_mean(column, columns)}"
            raise SchemaError(msg)


def _is_misfit(table: str, row: Row) -> bool:
    """Say whether a value is missing, of the wrong type, empty or out of range."""
    for column in _COLUMNS[table]:
        value = row.get(column.name)
        if value is None:
            if column.is_required:
                return True
        elif not _fits(column, value):
            return True
    return False


def _fits(column: _Column, value: Any) -> bool:
    if column.kind is str:
        return isinstance(value, str) and storable(value) == value and (column.is_nullable or bool(value.strip()))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if column.kind is int:
        return isinstance(value, int) and 0 <= value < 2**31
    return math.isfinite(value) and 0.0 <= value <= (1.0 if column.name == "confidence" else math.inf)
