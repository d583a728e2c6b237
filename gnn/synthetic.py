"""Graphs with the shape of real ones: power-law degrees, communities, exact sizes, no pair twice."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from gnn.data import TrainingGraph
from kg.ckg import CollaborativeKG
from kg.errors import ConfigError
from kg.files import GRAPH_FORMAT, atomic_directory, write_manifest
from kg.ids import IdMap
from kg.progress import Progress, silent
from kg.tables import TABLES, conform, empty_table
from kg.terms import INTERACTS, ITEM, RULE, SPLITS, USER

Ints = npt.NDArray[np.int64]
Pairs = tuple[Ints, Ints, Ints]
_CHUNK = 1 << 20
_OTHER = "Entity"
_OWN_COMMUNITY = 0.7
_USER_TAIL = 2.0
_SKEW = 2.5
_SKEWED_ROUNDS = 3


@dataclass(frozen=True)
class SyntheticConfig:
    """The size of a graph.

    Attributes:
        n_users: each has at least one interaction, which is in train.
        n_items: items; one that nobody drew has no interaction.
        n_interactions: distinct pairs of user and item, over all splits.
        n_entities: other entities, tails of facts.
        n_triples: distinct facts (item, relation, entity), of confidence 1.
        n_relations: of facts; each occurs.
        valid: share of interactions for validation, drawn one by one.
        test: share for test.
        seed: of everything.

    Raises:
        ConfigError: if a number is out of range, or so many distinct pairs or facts do not exist.
    """

    n_users: int
    n_items: int
    n_interactions: int
    n_entities: int = 0
    n_triples: int = 0
    n_relations: int = 1
    valid: float = 0.1
    test: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        most = self.n_users * max(1, self.n_items // 2)
        facts = self.n_items * self.n_entities * self.n_relations // 2
        ranges = (
            ("n_users", 1, None),
            ("n_items", 1, None),
            ("n_interactions", self.n_users, most),  # half of all items a user: beyond, draws mostly repeat
            ("n_entities", 0, None),
            ("n_triples", 0, facts),
            ("n_relations", 1, max(1, self.n_triples)),
            ("seed", 0, None),
        )
        for name, low, high in ranges:
            value = getattr(self, name)
            if value < low or (high is not None and value > high):
                expected = f"at least {low}" if high is None else f"{low} to {high} for a graph of this size"
                msg = f"`{name}` is {value}; expected {expected}"
                raise ConfigError(msg)
        if not (self.valid >= 0 and self.test >= 0 and self.valid + self.test < 1):
            msg = f"valid={self.valid} and test={self.test} leave no share for train; expected a sum below 1"
            raise ConfigError(msg)


def synthetic_ckg(config: SyntheticConfig) -> CollaborativeKG:
    """Make a graph in memory: what reading the directory of `write_synthetic` gives.

    A user's number of interactions is Pareto distributed (tail exponent 2). An item of popularity rank r is drawn with
    density r^-0.6, seven times in ten among the items of the user's own community, else among all. A fact joins an
    item and an entity by the same rule.
    """
    users, items, split = (np.concatenate(parts) for parts in zip(*_interactions(config), strict=True))
    pairs = np.stack([users, config.n_users + items], axis=1)
    triples = _facts(config) + np.array([config.n_users, 1, config.n_users + config.n_items])
    nodes = [name for kind in _ids(config).values() for name in kind.to_pylist()]
    names = (INTERACTS, *(_relations(config) if config.n_triples else []))
    interactions = {name: pairs[split == k] for k, name in enumerate(SPLITS)}
    return CollaborativeKG(
        IdMap(tuple(nodes)), config.n_users, config.n_items, names, interactions, triples, np.ones(len(triples))
    )


def last_fm_size(seed: int = 0) -> TrainingGraph:
    """Make a graph of the size that KGAT's paper gives for its Last-FM, every interaction in train.

    23,566 users, 48,123 items and 58,266 other entities, 1,289,003 interactions, 464,567 facts of 9 relations:
    3,507,140 edges of 20 relations with the inverses.

    Source:
        Wang et al., KDD 2019 (KGAT), table 1.
    """
    size = {"n_users": 23_566, "n_items": 48_123, "n_interactions": 1_289_003}
    facts = {"n_entities": 106_389 - 48_123, "n_triples": 464_567, "n_relations": 9}
    return TrainingGraph.from_ckg(synthetic_ckg(SyntheticConfig(**size, **facts, valid=0.0, test=0.0, seed=seed)))


def write_synthetic(config: SyntheticConfig, path: Path, progress: Progress = silent) -> None:
    """Write a graph directory, whole or not at all, in the memory of a million interactions.

    Args:
        config: the size.
        path: the directory to make; `kg.files.read_graph` reads it.
        progress: told after every million interactions.

    Raises:
        WriteError: if the place is taken, or the disk is full or read-only.
    """
    ids = _ids(config)
    with atomic_directory(path) as partial:
        tables = {name: empty_table(name) for name in TABLES if name != "interactions"}
        tables |= {"entities": _entity_table(ids), "triples": _fact_table(config, ids)}
        tables["sources"] = conform("sources", pa.table({"source": ["synthetic"], "kind": [RULE]}))
        for name, table in tables.items():
            pq.write_table(table, partial / f"{name}.parquet", compression="zstd")
        _write_interactions(config, ids, partial / "interactions.parquet", progress)
        counts = {name: len(tables.get(name, ())) for name in TABLES} | {"interactions": config.n_interactions}
        write_manifest(partial, GRAPH_FORMAT, counts=counts, config=asdict(config), seed=config.seed)


def _write_interactions(config: SyntheticConfig, ids: dict[str, pa.Array], path: Path, progress: Progress) -> None:
    names = pa.array(SPLITS, pa.string())
    done = 0
    code = pa.dictionary(pa.int32(), pa.string())
    columns = [
        ("user_id", code),
        ("item_id", code),
        ("timestamp", pa.int64()),
        ("value", pa.float64()),
        ("split", code),
    ]
    # the schema that is stored would give dictionaries back where the format says strings
    with pq.ParquetWriter(
        path, pa.schema(columns), compression="zstd", store_schema=False, dictionary_pagesize_limit=1 << 28
    ) as writer:
        for users, items, split in _interactions(config):
            first = int(users[0])
            encoded = (
                (users - first, ids[USER][first : int(users[-1]) + 1]),
                (items, ids[ITEM]),
                (split, names),
            )
            user_id, item_id, part = (
                pa.DictionaryArray.from_arrays(pa.array(index.astype(np.int32)), values) for index, values in encoded
            )
            nothing = pa.nulls(len(users), pa.int64()), pa.nulls(len(users), pa.float64())
            writer.write_table(pa.table([user_id, item_id, *nothing, part], schema=pa.schema(columns)), len(users))
            done += len(users)
            progress(done, config.n_interactions, "interactions")


def _interactions(config: SyntheticConfig) -> Iterator[Pairs]:
    """Yield users, items and splits, sorted by user, then item; a chunk holds whole users, about a million rows."""
    rng = np.random.default_rng([config.seed, 0])
    degree = _degrees(config, rng)
    item_of_rank = rng.permutation(config.n_items)
    community = rng.integers(_n_communities(config.n_items), size=config.n_users)
    chunk = (np.cumsum(degree) - 1) // _CHUNK
    starts = np.flatnonzero(np.diff(chunk, prepend=-1, append=chunk[-1] + 1))
    for low, high in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        own = np.random.default_rng([config.seed, 1, low])
        keys = _draw_keys(np.arange(low, high), degree[low:high], community[low:high], item_of_rank, own)
        users, items = np.divmod(keys, config.n_items)
        draw = own.random(len(keys))
        split = (draw < config.valid + config.test).astype(np.int64) + (draw < config.test)
        learned = np.bincount(users[split == 0] - low, minlength=high - low) > 0
        first = np.searchsorted(users, np.arange(low, high))
        split[first[~learned]] = 0  # nothing can be learned about a user without a train interaction
        yield users, items, split


def _draw_keys(users: Ints, degree: Ints, community: Ints, item_of_rank: Ints, rng: np.random.Generator) -> Ints:
    """Return user * n_items + item, sorted, `degree` of them for each user."""
    n_items = len(item_of_rank)
    keys, turn = np.empty(0, np.int64), 0
    while (missing := degree - np.bincount(keys // n_items - users[0], minlength=len(users))).any():
        owner = np.repeat(np.arange(len(users)), missing)
        if turn < _SKEWED_ROUNDS:
            rank = _draw_ranks(community[owner], n_items, _n_communities(n_items), rng)
        else:  # a heavy user has the popular items by now
            rank = rng.integers(n_items, size=len(owner))
        keys = _distinct(np.concatenate([keys, users[owner] * n_items + item_of_rank[rank]]))
        turn += 1
    return keys


def _draw_ranks(community: Ints, n: int, n_communities: int, rng: np.random.Generator) -> Ints:
    """Draw a popularity rank below n for each row; the members of community c are the ranks c, c + C, c + 2 C, ..."""
    share = rng.random(len(community)) ** _SKEW
    inside = rng.random(len(community)) < _OWN_COMMUNITY
    n_members = (n - 1 - community) // n_communities + 1
    own = (share * n_members).astype(np.int64) * n_communities + community
    return np.where(inside & (n_members > 0), own, (share * n).astype(np.int64))


def _degrees(config: SyntheticConfig, rng: np.random.Generator) -> Ints:
    """Draw how many interactions each user has: Pareto, at least 1, at most half of the items, the sum exact."""
    n, most = config.n_users, max(1, config.n_items // 2)
    weight = rng.permutation((np.arange(n) + 0.5) / n) ** (-1.0 / _USER_TAIL)
    degree: Ints = np.minimum(1 + (weight * ((config.n_interactions - n) / weight.sum())).astype(np.int64), most)
    while left := config.n_interactions - int(degree.sum()):
        degree[rng.permutation(np.flatnonzero(degree < most))[:left]] += 1
    return degree


def _facts(config: SyntheticConfig) -> Ints:
    """Draw distinct (item, relation, entity), each from 0, sorted."""
    rng = np.random.default_rng([config.seed, 2])
    n_communities = _n_communities(config.n_items)
    item_of_rank, entity_of_rank = rng.permutation(config.n_items), rng.permutation(config.n_entities)
    keys = np.empty(0, np.int64)
    while missing := config.n_triples - len(keys):
        item = (rng.random(missing) * config.n_items).astype(np.int64)
        entity = _draw_ranks(item % n_communities, config.n_entities, n_communities, rng)
        relation = (rng.random(missing) ** _SKEW * config.n_relations).astype(np.int64)
        if not len(keys):
            relation[: config.n_relations] = np.arange(config.n_relations)
        fact = (item_of_rank[item] * config.n_relations + relation) * config.n_entities + entity_of_rank[entity]
        keys = _distinct(np.concatenate([keys, fact]))
    rest, entity = np.divmod(keys, max(1, config.n_entities))
    triples: Ints = np.stack([*np.divmod(rest, config.n_relations), entity], axis=1)
    return triples


def _distinct(keys: Ints) -> Ints:
    """Sort and keep one of each; `np.unique` hashes integers, which takes twenty times as long on a million."""
    keys.sort()
    return keys[np.diff(keys, prepend=-1) > 0]


def _n_communities(n_items: int) -> int:
    return max(1, int(n_items**0.5) // 8)


def _ids(config: SyntheticConfig) -> dict[str, pa.Array]:
    """Return the ids of each type of entity, in an order that is also their alphabetic order."""
    sizes = {USER: config.n_users, ITEM: config.n_items, _OTHER: config.n_entities}
    return {kind: _numbered(f"{kind.lower()}:", n) for kind, n in sizes.items()}


def _relations(config: SyntheticConfig) -> list[str]:
    names: list[str] = _numbered("relation_", config.n_relations).to_pylist()
    return names


def _numbered(prefix: str, n: int) -> pa.Array:
    width = len(str(max(n - 1, 0)))
    return pa.array([f"{prefix}{k:0{width}}" for k in range(n)], pa.string())


def _entity_table(ids: dict[str, pa.Array]) -> pa.Table:
    kinds = np.repeat(list(ids), [len(names) for names in ids.values()])
    names = pa.concat_arrays(list(ids.values()))
    table = pa.table({"entity_id": names, "type": pa.array(kinds, pa.string()), "name": names})
    return conform("entities", table.sort_by("entity_id"))


def _fact_table(config: SyntheticConfig, ids: dict[str, pa.Array]) -> pa.Table:
    item, relation, entity = (pa.array(column) for column in _facts(config).T)
    columns = {
        "head": ids[ITEM].take(item),
        "relation": pa.array(_relations(config), pa.string()).take(relation),
        "tail": ids[_OTHER].take(entity),
        "confidence": np.ones(len(item)),
        "source": pa.repeat("synthetic", len(item)),
    }
    return conform("triples", pa.table(columns))
