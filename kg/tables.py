"""The eight tables that flow between the stages, and their validation."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kg.errors import DuplicateIdError, SchemaError, UnknownIdError, did_you_mean, first_five
from kg.terms import SOURCE_KINDS, SPLITS, UNSPLIT

_STR = pa.string()
_MOST_KEYS = 2**62
SHOWN_TYPE = pa.list_(pa.struct([("user_id", _STR), ("item_id", _STR)]))
"""Interactions that a prompt showed to a model: what the leak check reads."""


@dataclass(frozen=True)
class TableSpec:
    """What one table must look like.

    Attributes:
        schema: columns in order; a column that is not nullable must have no null.
        key: columns whose values together occur once.
        references: column -> the tables (entities, sources, hyperedges) that must define its values.
    """

    schema: pa.Schema
    key: tuple[str, ...]
    references: dict[str, tuple[str, ...]]


def _schema(*columns: tuple[str, pa.DataType], optional: tuple[str, ...] = ()) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=name in optional) for name, kind in columns])


_ENTITY = ("entities",)
_SOURCE = ("sources",)
_NODE = ("entities", "hyperedges")

TABLES: dict[str, TableSpec] = {
    "entities": TableSpec(
        _schema(("entity_id", _STR), ("type", _STR), ("name", _STR), ("text", _STR), optional=("text",)),
        ("entity_id",),
        {},
    ),
    "interactions": TableSpec(
        _schema(
            ("user_id", _STR),
            ("item_id", _STR),
            ("timestamp", pa.int64()),
            ("value", pa.float64()),
            ("split", _STR),
            optional=("timestamp", "value"),
        ),
        ("user_id", "item_id"),
        {"user_id": _ENTITY, "item_id": _ENTITY},
    ),
    "triples": TableSpec(
        _schema(("head", _STR), ("relation", _STR), ("tail", _STR), ("confidence", pa.float64()), ("source", _STR)),
        ("head", "relation", "tail", "source"),
        {"head": _ENTITY, "tail": _ENTITY, "source": _SOURCE},
    ),
    "hyperedges": TableSpec(
        _schema(("hyperedge_id", _STR), ("relation", _STR), ("weight", pa.float64()), ("source", _STR)),
        ("hyperedge_id",),
        {"source": _SOURCE},
    ),
    "members": TableSpec(
        _schema(
            ("hyperedge_id", _STR),
            ("entity_id", _STR),
            ("role", _STR),
            ("position", pa.int32()),
            optional=("position",),
        ),
        ("hyperedge_id", "entity_id", "role", "position"),
        {"hyperedge_id": ("hyperedges",), "entity_id": _ENTITY},
    ),
    "texts": TableSpec(
        _schema(("entity_id", _STR), ("kind", _STR), ("text", _STR), ("source", _STR)),
        ("entity_id", "kind", "source"),
        {"entity_id": _NODE, "source": _SOURCE},
    ),
    "features": TableSpec(
        _schema(("entity_id", _STR), ("kind", _STR), ("vector", pa.list_(pa.float32()))),
        ("entity_id", "kind"),
        {"entity_id": _NODE},
    ),
    "sources": TableSpec(
        _schema(
            ("source", _STR),
            ("kind", _STR),
            ("model", _STR),
            ("prompt", _STR),
            ("prompt_version", _STR),
            ("unit", _STR),
            ("quote", _STR),
            ("span", _STR),
            ("reply", _STR),
            ("reply_sha", _STR),
            ("tokens", pa.int64()),
            ("shown", SHOWN_TYPE),
            optional=(
                *("model", "prompt", "prompt_version", "unit", "quote", "span"),
                *("reply", "reply_sha", "tokens", "shown"),
            ),
        ),
        ("source",),
        {},
    ),
}

_ID_COLUMN = {"entities": "entity_id", "hyperedges": "hyperedge_id", "sources": "source"}
_ALLOWED = {("interactions", "split"): (*SPLITS, UNSPLIT), ("sources", "kind"): SOURCE_KINDS}
_UNIT_RANGE = {("triples", "confidence"): 1.0, ("hyperedges", "weight"): None}


def empty_table(name: str) -> pa.Table:
    """Return table `name` with its columns and no row."""
    return TABLES[name].schema.empty_table()


def conform(name: str, table: pa.Table) -> pa.Table:
    """Bring a table to the schema of table `name`: order, types, absent optional columns as null.

    Raises:
        SchemaError: for an unknown table or column, a missing column, a value of a wrong type, a null, or a number out
            of range.
        DuplicateIdError: if two rows have the same key.
    """
    if name not in TABLES:
        msg = f"unknown table `{name}`; {did_you_mean(name, TABLES)}"
        raise SchemaError(msg)
    spec = TABLES[name]
    for column in table.column_names:
        if column not in spec.schema.names:
            msg = f"table `{name}` has an unknown column `{column}`; {did_you_mean(column, spec.schema.names)}"
            raise SchemaError(msg)
    columns = [_conform_column(name, field, table) for field in spec.schema]
    conformed = pa.table(columns, schema=spec.schema)
    _check_values(name, conformed)
    if name == "features":
        _check_vectors(conformed)
    _check_key(name, conformed)
    return conformed


def check_references(tables: dict[str, pa.Table]) -> None:
    """Check that every id that a row names is defined.

    Raises:
        UnknownIdError: naming the table, the column and the first five unknown ids.
    """
    known = {name: tables[name][column].combine_chunks() for name, column in _ID_COLUMN.items()}
    for name, spec in TABLES.items():
        for column, targets in spec.references.items():
            values = pc.unique(tables[name][column])
            unknown = pc.invert(pc.is_in(values, value_set=known[targets[0]]))
            for target in targets[1:]:
                unknown = pc.and_(unknown, pc.invert(pc.is_in(values, value_set=known[target])))
            missing = values.filter(unknown)
            if len(missing):
                msg = (
                    f"table `{name}`, column `{column}`: {len(missing)} ids are not in {' or '.join(targets)}: "
                    f"{first_five(missing.to_pylist())}; add them there or drop the rows"
                )
                raise UnknownIdError(msg)


def _conform_column(name: str, field: pa.Field, table: pa.Table) -> pa.ChunkedArray | pa.Array:
    if field.name not in table.column_names:
        if field.nullable:
            return pa.nulls(len(table), field.type)
        msg = (
            f"table `{name}` lacks the column `{field.name}`; got {', '.join(table.column_names) or 'no column'}. "
            "Rename a column or map it"
        )
        raise SchemaError(msg)
    column = table[field.name]
    try:
        cast = column if column.type == field.type else column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        msg = f"table `{name}`, column `{field.name}`: {column.type} does not convert to {field.type}: {error}"
        raise SchemaError(msg) from error
    if cast.null_count and not field.nullable:
        row = pc.index(pc.is_null(cast), True).as_py()
        msg = f"table `{name}`, column `{field.name}`: {cast.null_count} values are missing, the first in row {row}"
        raise SchemaError(msg)
    return cast


def _check_values(name: str, table: pa.Table) -> None:
    for (owner, column), allowed in _ALLOWED.items():
        if owner != name:
            continue
        values = pc.unique(table[column]).to_pylist()
        wrong = [v for v in values if v not in allowed]
        if wrong:
            msg = f"table `{name}`, column `{column}` has {first_five(wrong)}; expected one of {', '.join(allowed)}"
            raise SchemaError(msg)
    for (owner, column), upper in _UNIT_RANGE.items():
        if owner != name or not len(table):
            continue
        inside = pc.and_(pc.greater_equal(table[column], 0.0), pc.is_finite(table[column]))
        if upper is not None:
            inside = pc.and_(inside, pc.less_equal(table[column], upper))
        if not pc.all(inside).as_py():
            row = pc.index(inside, False).as_py()
            msg = (
                f"table `{name}`, column `{column}`, row {row}: {table[column][row].as_py()} is outside "
                f"[0, {upper if upper is not None else 'inf'}{']' if upper is not None else ')'}; correct that row"
            )
            raise SchemaError(msg)


def _check_vectors(features: pa.Table) -> None:
    vectors = features["vector"].combine_chunks()
    values = pc.list_flatten(vectors)
    finite = pc.fill_null(pc.is_finite(values), False)
    if not pc.all(finite, min_count=0).as_py():
        place = pc.index(finite, False).as_py()
        row = pc.list_parent_indices(vectors)[place].as_py()
        what = f"table `features`, row {row}: the vector of `{features['entity_id'][row]}` holds {values[place]}"
        msg = f"{what}; expected finite numbers, encode it again"
        raise SchemaError(msg)


def _check_key(name: str, table: pa.Table) -> None:
    key = TABLES[name].key
    if _all_differ(table.select(key)):
        return
    counts = table.select(key).group_by(list(key)).aggregate([([], "count_all")])
    if len(counts) == len(table):
        return
    twice = counts.filter(pc.greater(counts["count_all"], 1)).select(key).to_pylist()
    shown = first_five(" | ".join(str(v) for v in row.values()) for row in twice)
    msg = f"table `{name}`: {len(twice)} keys ({', '.join(key)}) occur more than once: {shown}; keep one row of each"
    raise DuplicateIdError(msg)


def _all_differ(rows: pa.Table) -> bool:
    """Say whether no two rows are equal, where a row goes into one integer; a sort of those beats a hash of texts."""
    keys, n_keys = np.zeros(len(rows), np.int64), 1
    for column in rows.columns:
        coded = column.dictionary_encode("encode").combine_chunks()
        n_keys *= len(coded.dictionary)
        if n_keys > _MOST_KEYS:
            return False
        keys = keys * len(coded.dictionary) + coded.indices.to_numpy()
    keys.sort()
    return not np.any(keys[1:] == keys[:-1])
