"""What a user would lose: paths that exist, in the right order, without a held-out interaction."""

import itertools
import time

import numpy as np
import pytest

from gnn.errors import IndexRangeError, InputError
from gnn.explain import PathFinder, find_paths
from kg.ckg import CollaborativeKG
from kg.ids import IdMap
from tests.toy import toy_graph


@pytest.fixture(scope="module")
def ckg():
    return CollaborativeKG.from_graph(toy_graph())


def _brute_force(ckg, user, item):
    """All simple paths of at most 3 edges by plain recursion."""
    (heads, tails), kinds = ckg.edges()
    conf = np.concatenate([np.ones(len(ckg.interactions["train"])), ckg.confidence])
    conf = np.concatenate([conf, conf])
    degree = np.bincount(heads, minlength=ckg.n_nodes)
    target, found = ckg.n_users + item, {}

    def walk(nodes, types, score):
        if nodes[-1] == target:
            found[(nodes, types)] = score / np.sqrt(np.prod([float(degree[n]) for n in nodes[1:-1]]))
            return
        if len(types) == 3:
            return
        for e in np.flatnonzero(heads == nodes[-1]):
            tail, kind = int(tails[e]), int(kinds[e])
            if tail not in nodes and not (nodes == (user,) and tail == target and kind == 0):
                walk((*nodes, tail), (*types, kind), score * conf[e])

    walk((user,), (), 1.0)
    return found


def test_finds_exactly_the_paths_of_a_plain_search(ckg):
    finder = PathFinder(ckg)
    for user, item in itertools.product(range(ckg.n_users), range(ckg.n_items)):
        expected = _brute_force(ckg, user, item)
        paths = finder.find_paths(user, item, limit=10_000)
        assert {(p.nodes, p.edge_types) for p in paths} == set(expected)
        for path in paths:
            assert path.score == pytest.approx(expected[path.nodes, path.edge_types])


def test_paths_come_best_first_and_the_limit_keeps_the_best(ckg):
    finder = PathFinder(ckg)
    everything = finder.find_paths(0, 2, limit=10_000)
    scores = [p.score for p in everything]
    assert scores == sorted(scores, reverse=True)
    assert finder.find_paths(0, 2, limit=4) == everything[:4]
    assert find_paths(ckg, 0, 2, limit=4) == everything[:4]


def test_no_path_shows_a_held_out_interaction(ckg):
    held_out = {
        (int(u), ckg.n_users + int(i))
        for split in ("valid", "test")
        for u, i in zip(*ckg.user_items(split), strict=True)
    }
    finder = PathFinder(ckg)
    for user, item in itertools.product(range(ckg.n_users), range(ckg.n_items)):
        for path in finder.find_paths(user, item, limit=10_000):
            for head, tail, kind in zip(path.nodes, path.nodes[1:], path.edge_types, strict=False):
                if kind % ckg.n_relations == 0:
                    assert (min(head, tail), max(head, tail)) not in held_out


def test_the_interaction_itself_is_no_explanation(ckg):
    user, item = 0, 0  # user:1 has item:1 in train
    assert all(len(p.nodes) > 2 for p in PathFinder(ckg).find_paths(user, item, limit=10_000))


def test_a_fact_between_user_and_item_is_a_path_of_one_edge():
    ckg = _small(triples=[(0, 1, 2)], confidence=[0.4], train=[(1, 2)])
    (path,) = PathFinder(ckg).find_paths(0, 0)
    assert (path.nodes, path.edge_types, path.score) == ((0, 2), (1,), 0.4)


def test_what_is_denied_explains_nothing():
    ckg = _small(triples=[(0, 1, 2)], confidence=[0.0], train=[(1, 2)])
    assert PathFinder(ckg).find_paths(0, 0) == []


def test_a_rare_entity_beats_a_hub_of_equal_confidence():
    # user 0 has item 3; node 7 is a hub of items 3..6, node 8 joins only items 3 and 4
    triples = [(i, 1, 7) for i in (3, 4, 5, 6)] + [(3, 1, 8), (4, 1, 8)]
    ckg = _small(n_users=3, n_items=4, others=2, triples=triples, confidence=[1.0] * 6, train=[(0, 3)])
    best, second = PathFinder(ckg).find_paths(0, 1)
    assert best.nodes == (0, 3, 8, 4)
    assert second.nodes == (0, 3, 7, 4)


def test_per_pattern_leaves_room_for_other_kinds_of_path(ckg):
    paths = PathFinder(ckg).find_paths(0, 2, limit=50, per_pattern=1)
    patterns = [p.edge_types for p in paths]
    assert len(patterns) == len(set(patterns)) > 1


def test_the_same_nodes_by_other_relations_are_one_path_if_wanted():
    # item 2 -> node 4 -> item 3 by the mirrored relation 1, and by its stated inverse, relation 2
    triples, train = [(2, 1, 4), (3, 1, 4), (4, 2, 2), (4, 2, 3)], [(0, 2)]
    ckg = _small(2, 2, 1, triples, [1.0] * 4, train, n_relations=3)
    assert len(PathFinder(ckg).find_paths(0, 1)) == 4
    (path,) = PathFinder(ckg).find_paths(0, 1, distinct_nodes=True)
    assert path.nodes == (0, 2, 4, 3)
    assert path.edge_types == (0, 1, 4)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"user_idx": 6, "item_idx": 0}, IndexRangeError, "user index 6 is outside the graph, which has 6 users"),
        ({"user_idx": 0, "item_idx": -1}, IndexRangeError, "item index -1 is outside the graph, which has 8 items"),
        ({"user_idx": 0, "item_idx": 0, "max_length": 4}, InputError, "`max_length` is 4; expected 1 to 3"),
        ({"user_idx": 0, "item_idx": 0, "limit": 0}, InputError, "`limit` is 0"),
    ],
)
def test_wrong_arguments_are_named(ckg, arguments, error, text):
    with pytest.raises(error, match=text):
        PathFinder(ckg).find_paths(**arguments)


def test_a_pair_of_a_movielens_sized_graph_takes_less_than_a_tenth_of_a_second():
    rng = np.random.default_rng(0)
    n_users, n_items, others = 943, 1682, 30_000
    popularity = rng.permutation(np.arange(1, n_items + 1)) ** -0.8
    items = rng.choice(n_items, size=100_000, p=popularity / popularity.sum())
    train = np.unique(np.stack([rng.integers(0, n_users, 100_000), n_users + items], axis=1), axis=0)
    tails = n_users + n_items + (others * rng.random(91_000) ** 4).astype(np.int64)
    triples = np.unique(
        np.stack([n_users + rng.integers(0, n_items, 91_000), rng.integers(1, 20, 91_000), tails], axis=1), axis=0
    )
    ckg = _small(n_users, n_items, others, triples, np.ones(len(triples)), train, n_relations=20)
    finder = PathFinder(ckg)
    user, item = int(np.bincount(train[:, 0]).argmax()), int(np.bincount(train[:, 1] - n_users).argmax())
    started = time.process_time()
    assert len(finder.find_paths(user, item)) == 10
    assert time.process_time() - started < 0.1 * 5, "five times the goal for the busiest user and item"


def _small(n_users=2, n_items=1, others=0, triples=(), confidence=(), train=(), n_relations=2):
    nodes = IdMap(tuple(f"n:{i:06d}" for i in range(n_users + n_items + others)))
    relations = ("interacts", *(f"r{i}" for i in range(1, n_relations)))
    empty = np.empty((0, 2), np.int64)
    splits = {"train": np.array(train, np.int64).reshape(-1, 2), "valid": empty, "test": empty}
    return CollaborativeKG(
        nodes, n_users, n_items, relations, splits, np.array(triples, np.int64).reshape(-1, 3), np.array(confidence)
    )
