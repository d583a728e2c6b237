"""The way back from a fusion: entities that were merged become two again."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from kg.difference import Difference
from kg.errors import SchemaError, UnknownNameError, did_you_mean, first_five
from kg.fuse import FuseConfig, fuse
from kg.graph import Graph
from kg.resolve import Resolution


def unmerge(
    fused: Graph,
    base: Graph,
    *fragments: Graph,
    config: FuseConfig | None = None,
    merged: Resolution,
    entities: Sequence[str] = (),
    n_rows: Mapping[str, int] | None = None,
) -> tuple[Graph, Resolution]:
    """Take back merges of a fused graph; what was written to it since stays.

    The fusion is done again with and without these merges, and what differs is exchanged.

    Args:
        fused: what `fuse` made, perhaps with more written to it since.
        base: what it was made of.
        fragments: what it was made of.
        config: how it was made.
        merged: what was merged.
        entities: ids that went into others and come back; empty: all.
        n_rows: rows of each table of the graphs that were fused, as `FusionReport.before` counts them; None: no matter.

    Returns:
        The graph, and the decisions that still hold in it.

    Raises:
        UnknownNameError: if an id did not go into another.
        SchemaError: if these are not the graphs that were fused, or what was written since rests on what goes.
    """
    ids = merged.decisions["entity_id"].to_pylist()
    for entity in entities:
        if entity not in ids:
            msg = f"`{entity}` was not merged into another entity; {did_you_mean(entity, ids)}"
            raise UnknownNameError(msg)
    goes_on = pc.invert(pc.is_in(merged.decisions["entity_id"], value_set=pa.array(entities or ids, pa.string())))
    left = Resolution(merged.decisions.filter(goes_on), merged.too_large, merged.ambiguous)
    before, report = fuse(base, *fragments, config=config, resolution=left)
    after, _ = fuse(base, *fragments, config=config, resolution=merged)
    absent = sorted(set(entities or ids).difference(before.entities["entity_id"].to_pylist()))
    if absent or n_rows not in (None, report.before):
        what = (
            f"none of these graphs has {first_five(absent)}" if absent else "these are not the graphs that were fused"
        )
        msg = f"{what}; give the base and all fragments that it was made of, as they were"
        raise SchemaError(msg)
    difference = Difference.between(before, after)
    if n_missing := difference.n_missing(fused):
        msg = (
            f"{n_missing} rows that fusing these graphs gives are not in the fused graph; give the base and all "
            "fragments that it was made of, as they were"
        )
        raise SchemaError(msg)
    return difference.undo(fused), left
