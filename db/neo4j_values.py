"""From the driver's records to Arrow."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import neo4j
import pyarrow as pa
from neo4j.graph import Node, Path, Relationship


def inferred_table(names: Sequence[str], records: Iterator[neo4j.Record]) -> pa.Table:
    """Gather records into a table; values of a column that share no Arrow type become JSON texts.

    A node becomes its properties and `_labels`, a relationship its properties and `_type`.
    """
    rows = [[_plain(value) for value in record.values()] for record in records]
    return pa.table([_column([row[i] for row in rows]) for i in range(len(names))], names=list(names))


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return pa.array([None if v is None else json.dumps(v, default=str, ensure_ascii=False) for v in values])


def _plain(value: Any) -> Any:
    if isinstance(value, Node):
        return {"_labels": sorted(value.labels), **_plain(dict(value))}
    if isinstance(value, Relationship):
        return {"_type": value.type, **_plain(dict(value))}
    if isinstance(value, Path):
        return {"nodes": _plain(list(value.nodes)), "relationships": _plain(list(value.relationships))}
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value.to_native() if hasattr(value, "to_native") else value
