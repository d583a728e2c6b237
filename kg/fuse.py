"""Fusion: a data set and any number of extracted fragments become one graph, and a report says what happened."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kg.check import assert_no_leak
from kg.errors import ConfigError, DuplicateIdError, SchemaError, first_five
from kg.fusion import FuseConfig, FusionReport
from kg.graph import Graph
from kg.hyperedges import id_of_source, rename_hyperedges
from kg.resolve import Resolution, ResolveConfig, cluster, same_name_pairs
from kg.similar import Encoder
from kg.similar_names import SimilarConfig, similar_name_pairs
from kg.tables import TABLES

__all__ = ["FuseConfig", "FusionReport", "direct_merge", "find_resolution", "fuse"]

Tables = dict[str, pa.Table]
_ORIGIN = "_origin"  # 0 = base, 1 = fragment
_MOVED = "_moved"  # 1 = the row's id was rewritten by resolution
_TIE = "_tie"
_ROW = "_row"


def fuse(
    base: Graph,
    *fragments: Graph,
    config: FuseConfig | None = None,
    encode: Encoder | None = None,
    resolution: Resolution | None = None,
) -> tuple[Graph, FusionReport]:
    """Fuse a base and fragments into one graph in which every fact keeps every source that states it.

    One fact from two sources stays two rows; one source that states it twice gives one row with the higher confidence
    (`CollaborativeKG` combines the rows of one fact by noisy or, 1 - prod(1 - c); it is done there and nowhere else).
    The order of fragments does not matter, and fusing again changes nothing as long as one id means one thing in all
    graphs and only equal names are merged (how alike others are changes as they merge); where it does not, the base's
    entity row wins, else the smallest, and the report lists it as a conflict. Two sources that use one hyperedge id for
    different things get `ID@SOURCE` for all but one. Hyperedge weights, texts and features are not thresholded.

    Args:
        base: the data set; only it may bring interactions, and they must be split.
        fragments: what extraction methods made.
        config: see `FuseConfig`.
        encode: a sentence encoder, for `min_meaning`.
        resolution: what to merge; None: what `find_resolution` finds.

    Returns:
        The fused graph, rows sorted by key, and the report.

    Raises:
        ConfigError: if `min_meaning` asks for an encoder and none is given.
        SchemaError: if a fragment brings an interaction that the base does not have.
        DuplicateIdError: if two graphs describe one source differently, or one source one hyperedge.
        LeakError: if the result contains or rests on anything outside train.

    Source:
        Own design; the rules (provenance kept per source, resolution reported before it is applied, conflicts kept)
        answer the needs listed for graph construction tools: cognee (provenance rows), EDC (canonicalisation).

    Deviations:
        None known; no paper defines this procedure.
    """
    config = config or FuseConfig()
    tables, before, weak, conflicts = _stacked(base, fragments, config)
    resolution = resolution or _resolve(tables, config, encode)
    rewritten = {name: _rewrite(name, table, resolution) for name, table in tables.items()}
    rewritten["triples"], loops = _drop_new_loops(rewritten["triples"])
    fused_tables = {name: _best(name, table).select(TABLES[name].schema.names) for name, table in rewritten.items()}
    fused = Graph.from_tables(**fused_tables).canonical()
    assert_no_leak(fused)
    lost = Counter({"triples": len(weak) + len(loops), "entities": len(resolution.decisions)})
    report = FusionReport(
        base=base.counts(),
        before=before,
        after=fused.counts(),
        merged=resolution.decisions.to_pylist(),
        too_large=[list(group) for group in resolution.too_large],
        corroborated=_corroborated(fused),
        duplicates={name: before[name] - len(fused_tables[name]) - lost[name] for name in TABLES},
        conflicts=conflicts + _namesakes(resolution) + _functional_conflicts(fused, config.functional),
        dropped=weak + loops,
    )
    return fused, report


def direct_merge(base: Graph, *fragments: Graph) -> tuple[Graph, FusionReport]:
    """Put graphs together without a second look: nothing resolved and nothing weighed.

    This is the baseline that fusion has to beat: every fact counts as certain (confidence 1), and entities of one name
    under two ids stay two. A fact of confidence 0 says that something is not so, and is left out. Equal rows are one,
    and the leak check still holds.

    Args:
        base: the data set, split.
        fragments: what extraction methods made.

    Returns:
        The merged graph, and the report of `fuse`.

    Raises:
        SchemaError: as `fuse`.
        DuplicateIdError: as `fuse`.
        LeakError: as `fuse`.

    Source:
        Yang et al., "CSRec", DASFAA 2024, arXiv 2403.18325: merging an LLM's graph directly, which brings its noise
        along, is what its fusion is compared with.

    Deviations:
        None known.
    """
    config = FuseConfig(is_resolving=False, min_confidence=np.nextafter(0.0, 1.0))
    merged, report = fuse(base, *fragments, config=config)
    certain = pa.array(np.ones(len(merged.triples)))
    place = merged.triples.column_names.index("confidence")
    return merged.replace(triples=merged.triples.set_column(place, "confidence", certain)), report


def _corroborated(graph: Graph) -> int:
    sources = graph.triples.group_by(["head", "relation", "tail"]).aggregate([("source", "count_distinct")])
    return int(pc.sum(pc.greater(sources["source_count_distinct"], 1)).as_py() or 0)


def _check_interactions(base: Graph, fragment: Graph) -> None:
    def rows(graph: Graph) -> Any:
        cells = [pc.fill_null(c.cast(pa.string()), "") for c in graph.interactions.combine_chunks().columns]
        return pc.binary_join_element_wise(*cells, "\x1f")

    mine = rows(fragment)
    if not len(mine):
        return
    foreign = mine.filter(pc.invert(pc.is_in(mine, value_set=pa.chunked_array(rows(base)).combine_chunks())))
    if len(foreign):
        shown = first_five(row.replace("\x1f", " ") for row in foreign.to_pylist())
        msg = (
            f"a fragment brings {len(foreign)} interactions that the base does not have, or has in another split: "
            f"{shown}; extract from this base, or state proposals as triples `augmented_interacts`"
        )
        raise SchemaError(msg)


def _separate_hyperedges(graphs: Sequence[Graph]) -> list[Graph]:
    """Give each (hyperedge id, source) an id of its own; the base, else the smallest source, keeps the plain one."""
    owner: dict[str, tuple[int, str]] = {}
    for place, graph in enumerate(graphs):
        edges = graph.hyperedges
        for edge, source in zip(edges["hyperedge_id"].to_pylist(), edges["source"].to_pylist(), strict=True):
            claim = (min(place, 1), source)
            owner[edge] = min(owner.get(edge, claim), claim)
    return [_rename_hyperedges(graph, owner) for graph in graphs]


def _rename_hyperedges(graph: Graph, owner: dict[str, tuple[int, str]]) -> Graph:
    edges = graph.hyperedges
    renamed = {
        edge: id_of_source(edge, source)
        for edge, source in zip(edges["hyperedge_id"].to_pylist(), edges["source"].to_pylist(), strict=True)
        if owner[edge][1] != source
    }
    return rename_hyperedges(graph, renamed)


def _stack(base: Graph, graphs: Sequence[Graph]) -> Tables:
    stacked = {}
    for name in TABLES:
        parts = [
            getattr(graph, name).append_column(_ORIGIN, pa.array(np.full(graph.counts()[name], min(place, 1))))
            for place, graph in enumerate(graphs)
        ]
        stacked[name] = pa.concat_tables(parts).combine_chunks()
    origin = pa.array(np.zeros(len(base.interactions), np.int64))
    stacked["interactions"] = base.interactions.append_column(_ORIGIN, origin).combine_chunks()
    return stacked


def _drop_weak(triples: pa.Table, min_confidence: float) -> tuple[pa.Table, list[dict[str, Any]]]:
    weak = pc.less(triples["confidence"], min_confidence)
    return triples.filter(pc.invert(weak)), _dropped(triples.filter(weak), "low_confidence")


def _drop_new_loops(triples: pa.Table) -> tuple[pa.Table, list[dict[str, Any]]]:
    loop = pc.and_(pc.equal(triples["head"], triples["tail"]), pc.greater(triples[_MOVED], 0))
    return triples.filter(pc.invert(loop)), _dropped(triples.filter(loop), "self_loop")


def _dropped(triples: pa.Table, reason: str) -> list[dict[str, Any]]:
    rows = triples.select(TABLES["triples"].schema.names).to_pylist()
    return [{"table": "triples", "row": row, "reason": reason} for row in rows]


def find_resolution(
    base: Graph, *fragments: Graph, config: FuseConfig | None = None, encode: Encoder | None = None
) -> Resolution:
    """Say which entities `fuse` would merge, and change nothing: the dry run, to be stored and applied later.

    Args:
        base: as in `fuse`.
        fragments: as in `fuse`.
        config: as in `fuse`.
        encode: as in `fuse`.

    Raises:
        ConfigError: as `fuse`.
        SchemaError: as `fuse`.
    """
    config = config or FuseConfig()
    return _resolve(_stacked(base, fragments, config).tables, config, encode)


class _Stacked(NamedTuple):
    """All rows, before anything is merged, and what was found on the way."""

    tables: Tables
    before: dict[str, int]
    weak: list[dict[str, Any]]
    conflicts: list[dict[str, Any]]


def _stacked(base: Graph, fragments: Sequence[Graph], config: FuseConfig) -> _Stacked:
    for fragment in fragments:
        _check_interactions(base, fragment)
    tables = _stack(base, _separate_hyperedges([base, *fragments]))
    before = {name: len(table) for name, table in tables.items()}
    tables["triples"], weak = _drop_weak(tables["triples"], config.min_confidence)
    conflicts = _entity_conflicts(tables["entities"])
    tables["entities"] = _best("entities", tables["entities"])
    return _Stacked(tables, before, weak, conflicts)


def _resolve(tables: Tables, config: FuseConfig, encode: Encoder | None) -> Resolution:
    if config.decisions is not None:
        return Resolution.read(config.decisions)
    graph = Graph(**{name: table.select(TABLES[name].schema.names) for name, table in tables.items()})
    is_by_meaning, least = config.min_meaning < 1.0, config.min_name_similarity
    if is_by_meaning and encode is None:
        msg = f"min_meaning is {config.min_meaning}, but there is no encoder; give `encode`, or 1 to ask none"
        raise ConfigError(msg)
    if not config.is_resolving:
        pairs = []
    elif is_by_meaning or least < 1.0:
        similar = SimilarConfig(least, min(least, SimilarConfig.min_candidate), config.min_meaning)
        pairs = similar_name_pairs(graph, similar, encode if is_by_meaning else None)
    else:
        pairs = same_name_pairs(graph)
    return cluster(graph, pairs, ResolveConfig(config.max_cluster))


def _rewrite(name: str, table: pa.Table, resolution: Resolution) -> pa.Table:
    rewritten = resolution.rewrite(name, table)
    moved = pa.array(np.zeros(len(table), np.int64))
    for column in TABLES[name].schema.names:
        if column in TABLES[name].key and rewritten[column] is not table[column]:
            moved = pc.add(moved, _as_int(pc.not_equal(rewritten[column], table[column])))
    return rewritten.append_column(_MOVED, moved)


def _as_int(values: Any) -> Any:
    return pc.fill_null(values, False).combine_chunks().cast(pa.int64())


def _best(name: str, table: pa.Table) -> pa.Table:
    """Keep one row of each key: surest first, then the base's, then the one that kept its id, then the smallest."""
    columns, key = TABLES[name].schema.names, list(TABLES[name].key)
    repeated = _is_repeated(table, key)
    if not pc.any(repeated).as_py():
        return table
    several = table.filter(repeated)
    _check_same_statement(name, several)
    several = several.append_column(_TIE, _tie_break(several.select([c for c in columns if c not in key])))
    order = [(c, "descending") for c in ("confidence", "weight") if c in columns]
    order += [(c, "ascending") for c in (_ORIGIN, _MOVED, _TIE) if c in several.column_names]
    ordered = several.take(pc.sort_indices(several, sort_keys=order))
    ordered = ordered.append_column(_ROW, pa.array(np.arange(len(ordered))))
    first = ordered.group_by(key).aggregate([(_ROW, "min")])[f"{_ROW}_min"]
    return pa.concat_tables([table.filter(pc.invert(repeated)), ordered.take(first).select(table.column_names)])


def _is_repeated(table: pa.Table, key: list[str]) -> Any:
    cells = [pc.fill_null(table[c].combine_chunks().cast(pa.string()), "\x1e") for c in key]
    joined = pc.binary_join_element_wise(*cells, "\x1f")
    counted = pc.value_counts(joined)
    twice = counted.field("values").filter(pc.greater(counted.field("counts"), 1))
    return pc.is_in(joined, value_set=twice)


def _tie_break(table: pa.Table) -> pa.Array:
    return pa.array([repr(tuple(row.values())) for row in table.to_pylist()], pa.string())


def _check_same_statement(name: str, table: pa.Table) -> None:
    """Refuse two descriptions of one source, and two relations of one source's hyperedge: ids hash content."""
    fixed = {"sources": TABLES["sources"].schema.names, "hyperedges": ["hyperedge_id", "relation", "source"]}.get(name)
    if fixed is None:
        return
    said: dict[str, set[str]] = {}
    for row in table.select(fixed).to_pylist():
        said.setdefault(row[fixed[0]], set()).add(repr(row))
    twice = sorted(i for i, rows in said.items() if len(rows) > 1)
    if twice:
        msg = (
            f"two graphs say different things about {len(twice)} {name}: {first_five(twice)}; "
            "ids must follow from content, so extract one of them again"
        )
        raise DuplicateIdError(msg)


def _entity_conflicts(entities: pa.Table) -> list[dict[str, Any]]:
    said: dict[str, set[tuple[str, str]]] = {}
    for row in entities.to_pylist():
        said.setdefault(row["entity_id"], set()).add((row["type"], row["name"]))
    return [
        {"kind": "entity", "head": i, "relation": None, "values": sorted(f"{t} {n}" for t, n in rows)}
        for i, rows in sorted(said.items())
        if len(rows) > 1
    ]


def _namesakes(resolution: Resolution) -> list[dict[str, Any]]:
    return [
        {"kind": "namesakes", "head": group[0], "relation": None, "values": list(group)}
        for group in resolution.ambiguous
    ]


def _functional_conflicts(graph: Graph, functional: Sequence[str]) -> list[dict[str, Any]]:
    chosen = graph.triples.filter(pc.is_in(graph.triples["relation"], value_set=pa.array(functional, pa.string())))
    tails: dict[tuple[str, str], set[str]] = {}
    for row in chosen.select(["head", "relation", "tail"]).to_pylist():
        tails.setdefault((row["head"], row["relation"]), set()).add(row["tail"])
    return [
        {"kind": "functional", "head": head, "relation": relation, "values": sorted(values)}
        for (head, relation), values in sorted(tails.items())
        if len(values) > 1
    ]
