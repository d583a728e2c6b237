"""The way back from a fusion: entities that were merged become two again."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from kg.difference import Difference
from kg.errors import SchemaError, UnknownNameError, did_you_mean
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

    Returns:
        The graph, and the decisions that still hold in it.

    Raises:
        UnknownNameError: if an id did not go into another.
        SchemaError: if `fused` lacks what these graphs give, or what was written since rests on what goes.
    """
    ids = merged.decisions["entity_id"].to_pylist()
    for entity in entities:
        if entity not in ids:
            msg = f"`{entity}` was not merged into another entity; {did_you_mean(entity, ids)}"
            raise UnknownNameError(msg)
    goes_on = pc.invert(pc.is_in(merged.decisions["entity_id"], value_set=pa.array(entities or ids, pa.string())))
    left = Resolution(merged.decisions.filter(goes_on), merged.too_large, merged.ambiguous)
    before, after = (fuse(base, *fragments, config=config, resolution=r)[0] for r in (left, merged))
    difference = Difference.between(before, after)
    if n_missing := difference.n_missing(fused):
        msg = (
            f"{n_missing} rows that fusing these graphs gives are not in the fused graph; give the base and all "
            "fragments that it was made of, as they were"
        )
        raise SchemaError(msg)
    return difference.undo(fused), left
