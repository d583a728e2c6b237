"""Entity resolution: which entities are the same thing under different ids."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kg.errors import ConfigError, FileFormatError, first_five
from kg.files import write_file
from kg.graph import Graph
from kg.ids import IdMap
from kg.terms import DATASET, ITEM, USER

Pair = tuple[str, str, str]
"""Two entity ids that are the same thing, and why."""

DECISIONS = pa.schema([(name, pa.string()) for name in ("entity_id", "canonical_id", "reason")])
_ARTICLE = re.compile(r"\s*(?:a|an|the)\s+(?=\S)")
_JOINED = re.compile(r"['\u2019`]|(?<!\d)\.|\.(?!\d)")
_SPACED = re.compile(r"[-\u2010-\u2015_/\\,;:!?\u00a1\u00bf\"\u201c-\u201e\u00ab\u00bb()\[\]{}]+")
_ID_COLUMNS = {
    "entities": ("entity_id",),
    "triples": ("head", "tail"),
    "members": ("entity_id",),
    "texts": ("entity_id",),
    "features": ("entity_id",),
}


@dataclass(frozen=True)
class ResolveConfig:
    """How entities are resolved.

    Attributes:
        max_cluster: a group of more ids than this is not merged but reported: long chains swallow unrelated things.

    Raises:
        ConfigError: if `max_cluster` is below 2.
    """

    max_cluster: int = 20

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.max_cluster < 2:
            msg = f"max_cluster is {self.max_cluster}; expected at least 2, the size of the smallest merge"
            raise ConfigError(msg)


@dataclass(frozen=True)
class Resolution:
    """Decisions to merge entities; nothing happens until they are applied, so printing them is the dry run.

    Attributes:
        decisions: columns entity_id, canonical_id, reason; one row for each entity that goes, sorted.
        too_large: the groups that exceeded `max_cluster` and were left alone, each sorted.
        ambiguous: the groups that hold several entities of data sets and were left alone: a data set that gives two
            ids means two things, and nothing says which of them a namesake is.
    """

    decisions: pa.Table
    too_large: tuple[tuple[str, ...], ...] = ()
    ambiguous: tuple[tuple[str, ...], ...] = ()

    def write(self, path: Path) -> None:
        """Store the decisions as JSON, to be read by people, perhaps edited, and applied later or elsewhere.

        Raises:
            WriteError: if `path` is taken, or the disk is full or read-only.
        """
        kept = {"decisions": self.decisions.to_pylist(), "too_large": self.too_large, "ambiguous": self.ambiguous}
        write_file(path, json.dumps(kept, indent=1, ensure_ascii=False).encode())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read stored decisions.

        Raises:
            FileFormatError: if the file is absent or of another form, an entity goes twice, or goes into one that goes.
        """
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            decisions = pa.Table.from_pylist(kept["decisions"], schema=DECISIONS)
            groups = [tuple(tuple(group) for group in kept[name]) for name in ("too_large", "ambiguous")]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            msg = f"`{path}` holds no decisions: {error}; give a file that `kglift resolve` wrote"
            raise FileFormatError(msg) from error
        gone = Counter(decisions["entity_id"].to_pylist())
        wrong = [i for i, n in gone.items() if n > 1 or i is None] + [
            i for i in decisions["canonical_id"].to_pylist() if i is None or i in gone
        ]
        if wrong:
            msg = (
                f"`{path}`: {first_five(wrong)} goes twice, or goes and stays; "
                "an entity goes at most once, into one that stays: correct those rows"
            )
            raise FileFormatError(msg)
        return cls(decisions, *groups)

    def rewrite(self, name: str, table: pa.Table) -> pa.Table:
        """Return table `name` with every id that goes replaced by the one that stays; rows are not merged."""
        for column in _ID_COLUMNS.get(name, ()):
            ids = table[column].combine_chunks()
            place = pc.index_in(ids, value_set=self.decisions["entity_id"].combine_chunks())
            stays = pc.coalesce(self.decisions["canonical_id"].combine_chunks().take(place), ids)
            table = table.set_column(table.column_names.index(column), table.schema.field(column), stays)
        return table


def normalise(name: str) -> str:
    """Bring a name to the form in which spellings of one thing agree.

    Unicode NFKC, case folded, dots and apostrophes removed (not between digits), other punctuation as a space; leading
    English articles dropped where a blank follows and something is left (the A of `A. R. Rahman` is none). `+`, `#`,
    `&` and accents stay: C and C++ differ.

    Example:
        >>> normalise("The  Sci-Fi"), normalise("sci fi"), normalise("C++")
        ('sci fi', 'sci fi', 'c++')
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    while article := _ARTICLE.match(folded):
        folded = folded[article.end() :]
    words = _SPACED.sub(" ", _JOINED.sub("", folded)).split()
    if words[-1:] == ["the"] and "," in folded:
        words = words[:-1]
    return " ".join(words) or " ".join(folded.split())


def resolve(graph: Graph, config: ResolveConfig | None = None) -> Resolution:
    """Find entities of one type whose normalised names are equal; users and items are never touched.

    Two entities that data sets state are never merged with each other, whatever their names.

    Source:
        Own rule; exact matching on a normal form, as the exact resolver of neo4j-graphrag (1.18) does on raw names.

    Deviations:
        Groups are closed transitively, capped in size, and reported before anything is rewritten; namesakes that data
        sets tell apart stay apart.
    """
    return cluster(graph, same_name_pairs(graph), config or ResolveConfig())


def same_name_pairs(graph: Graph) -> list[Pair]:
    """Return neighbours in the order of (type, normalised name, id): enough to connect each group of namesakes."""
    kept = graph.entities.filter(
        pc.invert(pc.is_in(graph.entities["type"], value_set=pa.array([USER, ITEM], pa.string())))
    )
    columns = (kept[c].to_pylist() for c in ("type", "name", "entity_id"))
    named = sorted((kind, normalise(name), entity) for kind, name, entity in zip(*columns, strict=True))
    return [
        (one, other, f"same name `{name}` of type `{kind}`")
        for (kind, name, one), (kind_2, name_2, other) in pairwise(named)
        if kind == kind_2 and name == name_2 and name
    ]


def cluster(graph: Graph, pairs: Iterable[Pair], config: ResolveConfig) -> Resolution:
    """Close pairs transitively and choose who stays: the entity that a data set states, else the smallest id.

    Any finder of pairs can feed this, so chains and caps are handled in one place.

    Args:
        graph: whose facts say which entities come from a data set.
        pairs: entities that are the same, with a reason; in any order.
        config: see `ResolveConfig`.
    """
    listed = sorted(pairs)
    ids = IdMap.sorted(i for one, other, _ in listed for i in (one, other))
    reasons: dict[str, str] = {}
    for one, other, reason in listed:
        reasons.setdefault(one, reason)
        reasons.setdefault(other, reason)
    groups = _groups(ids, listed)
    stated = _stated_by_data(graph) if groups else frozenset()
    rows, too_large, ambiguous = [], [], []
    for group in groups:
        if sum(i in stated for i in group) > 1:
            ambiguous.append(tuple(group))
            continue
        if len(group) > config.max_cluster:
            too_large.append(tuple(group))
            continue
        stays = min(group, key=lambda i: (i not in stated, i))
        rows += [{"entity_id": i, "canonical_id": stays, "reason": reasons[i]} for i in group if i != stays]
    decisions = pa.Table.from_pylist(sorted(rows, key=lambda r: r["entity_id"]), schema=DECISIONS)
    return Resolution(decisions, tuple(sorted(too_large)), tuple(sorted(ambiguous)))


def _groups(ids: IdMap, pairs: list[Pair]) -> list[list[str]]:
    if not pairs:
        return []
    one, other = ids.to_idx([p[0] for p in pairs]), ids.to_idx([p[1] for p in pairs])
    links = coo_array((np.ones(len(pairs), np.int8), (one, other)), shape=(len(ids), len(ids)))
    _, label = connected_components(links, directed=False)
    groups: dict[int, list[str]] = {}
    for name, group in zip(ids.ids, label.tolist(), strict=True):
        groups.setdefault(group, []).append(name)
    return [g for g in groups.values() if len(g) > 1]


def _stated_by_data(graph: Graph) -> frozenset[str]:
    of_data = graph.sources.filter(pc.equal(graph.sources["kind"], DATASET))["source"].combine_chunks()
    triples = graph.triples.filter(pc.is_in(graph.triples["source"], value_set=of_data))
    edges = graph.hyperedges.filter(pc.is_in(graph.hyperedges["source"], value_set=of_data))["hyperedge_id"]
    members = graph.members.filter(pc.is_in(graph.members["hyperedge_id"], value_set=edges.combine_chunks()))
    columns = (triples["head"], triples["tail"], members["entity_id"])
    return frozenset(i for column in columns for i in column.to_pylist())
