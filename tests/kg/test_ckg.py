import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kg.ckg import CollaborativeKG
from kg.errors import SplitError
from kg.graph import Graph
from tests.oracles import edges_of_ckg
from tests.toy import ITEMS, USERS, toy_graph


def named_edges(ckg: CollaborativeKG) -> dict[tuple[str, str, str], float]:
    index, kind = ckg.edges()
    half = len(kind) // 2
    confidence = np.concatenate([np.ones(half - len(ckg.triples)), ckg.confidence])
    return {
        (ckg.nodes[h], ckg.relations[r], ckg.nodes[t]): float(c)
        for h, t, r, c in zip(*index[:, :half], kind[:half], confidence, strict=True)
    }


def test_nodes_are_users_then_items_then_the_rest_each_sorted() -> None:
    ckg = CollaborativeKG.from_graph(toy_graph())
    assert list(ckg.nodes.ids[:6]) == USERS
    assert list(ckg.nodes.ids[6:14]) == ITEMS
    assert list(ckg.nodes.ids[14:]) == sorted(ckg.nodes.ids[14:])
    assert {"hyperedge:1", "genre:comedy"} < set(ckg.nodes.ids[14:])
    assert (ckg.n_users, ckg.n_items, ckg.n_nodes, ckg.n_relations) == (6, 8, 23, 8)
    assert ckg.relations[0] == "interacts"


def test_edges_are_those_of_the_oracle() -> None:
    edges = named_edges(CollaborativeKG.from_graph(toy_graph()))
    assert edges == pytest.approx(edges_of_ckg(toy_graph()))
    assert edges["item:7", "has_mood", "mood:dark"] == pytest.approx(1 - 0.2 * 0.5)
    assert edges["item:7", "acted_by", "person:anna"] == edges["item:7", "directed_by", "person:anna"] == 1.0


ends = st.sampled_from(["e0", "e1", "e2", "i0", "u0"])
rows = st.tuples(ends, st.sampled_from("rs"), ends, st.sampled_from(["a", "b"]))
chances = st.floats(0, 1)


@given(st.dictionaries(rows, chances, max_size=30), st.dictionaries(st.sampled_from("hk"), st.floats(0, 3)), st.data())
@settings(deadline=None, max_examples=40)
def test_any_facts_give_the_edges_of_the_oracle(
    facts: dict[tuple[str, str, str, str], float], weights: dict[str, float], data: st.DataObject
) -> None:
    member = st.tuples(ends, st.sampled_from(["m", "n"]), st.sampled_from([None, 0, 1]))
    members = {h: data.draw(st.sets(member, max_size=4)) for h in weights}
    types = {"u0": "User", "i0": "Item"}
    graph = Graph.from_rows(
        entities=[{"entity_id": i, "type": types.get(i, "T"), "name": i} for i in ("e0", "e1", "e2", "i0", "u0")],
        interactions=[{"user_id": "u0", "item_id": "i0", "split": "train"}],
        triples=[
            {"head": h, "relation": r, "tail": t, "confidence": c, "source": s} for (h, r, t, s), c in facts.items()
        ],
        hyperedges=[{"hyperedge_id": h, "relation": "x", "weight": w, "source": "a"} for h, w in weights.items()],
        members=[
            {"hyperedge_id": h, "entity_id": e, "role": r, "position": p} for h, ms in members.items() for e, r, p in ms
        ],
        sources=[{"source": s, "kind": "llm"} for s in "ab"],
    )
    ckg = CollaborativeKG.from_graph(graph)
    assert named_edges(ckg) == pytest.approx(edges_of_ckg(graph))
    assert len(ckg.edges()[1]) == 2 * len(edges_of_ckg(graph))
    assert ((ckg.confidence >= 0) & (ckg.confidence <= 1)).all()


def test_the_second_half_of_the_edges_is_the_inverse_of_the_first() -> None:
    ckg = CollaborativeKG.from_graph(toy_graph())
    index, kind = ckg.edges()
    half = index.shape[1] // 2
    assert (index[:, half:] == index[::-1, :half]).all()
    assert (kind[half:] == kind[:half] + ckg.n_relations).all()
    assert kind.max() < 2 * ckg.n_relations


def test_no_held_out_interaction_is_an_edge() -> None:
    graph = toy_graph()
    edges = named_edges(CollaborativeKG.from_graph(graph))
    held_out = [r for r in graph.interactions.to_pylist() if r["split"] != "train"]
    assert len(held_out) == 12
    assert not {(r["user_id"], "interacts", r["item_id"]) for r in held_out} & set(edges)


def test_interactions_are_kept_by_split_with_items_from_zero_on_request() -> None:
    ckg = CollaborativeKG.from_graph(toy_graph())
    users, items = ckg.user_items("test")
    assert [(USERS[u], ITEMS[i]) for u, i in zip(users, items, strict=True)] == [
        ("user:1", "item:4"), ("user:2", "item:5"), ("user:3", "item:7"), ("user:4", "item:8"), ("user:5", "item:8"),
        ("user:6", "item:8"),
    ]  # fmt: skip
    assert (ckg.interactions["test"][:, 1] == items + ckg.n_users).all()


def test_without_triples_the_interactions_are_the_same() -> None:
    ckg = CollaborativeKG.from_graph(toy_graph())
    bare = ckg.without_triples()
    assert (bare.n_nodes, bare.n_relations, len(bare.triples), len(bare.confidence)) == (14, 1, 0, 0)
    assert all((bare.interactions[s] == ckg.interactions[s]).all() for s in ckg.interactions)
    assert bare.edges()[0].shape == (2, 24)


def test_the_order_of_rows_does_not_matter() -> None:
    turned = Graph(**{name: table.take(list(range(len(table)))[::-1]) for name, table in toy_graph().tables().items()})
    one, other = CollaborativeKG.from_graph(toy_graph()), CollaborativeKG.from_graph(turned)
    assert one.nodes == other.nodes
    assert (one.triples == other.triples).all()
    assert (one.edges()[0] == other.edges()[0]).all()


@pytest.mark.parametrize(
    ("split", "text"), [("unsplit", "not split yet; run `kglift data split`"), ("test", "no interaction is in `train`")]
)
def test_a_graph_that_nothing_can_learn_from_is_refused(split: str, text: str) -> None:
    table = toy_graph().interactions
    splits = pa.array([split] * len(table))
    with pytest.raises(SplitError, match=text):
        CollaborativeKG.from_graph(toy_graph().replace(interactions=table.set_column(4, table.schema.field(4), splits)))


def test_a_graph_of_the_size_of_ml_100k_with_its_kg_is_indexed_within_a_second() -> None:
    rng = np.random.default_rng(0)
    users, items, others = ([f"{p}:{n}" for n in range(k)] for p, k in (("u", 943), ("i", 1682), ("e", 30_000)))
    pairs = np.unique(rng.integers(0, 943 * 1682, 103_000))
    facts = np.unique(rng.integers(0, [1682, 26, 30_000], (91_631, 3)), axis=0)
    names = users + items + others
    graph = Graph.from_tables(
        entities=pa.table(
            {"entity_id": names, "type": ["User"] * 943 + ["Item"] * 1682 + ["E"] * 30_000, "name": names}
        ),
        interactions=pa.table(
            {
                "user_id": pa.array(users).take(pairs // 1682),
                "item_id": pa.array(items).take(pairs % 1682),
                "split": ["train"] * len(pairs),
            }
        ),
        triples=pa.table(
            {
                "head": pa.array(items).take(facts[:, 0]),
                "relation": [f"r{n}" for n in facts[:, 1]],
                "tail": pa.array(others).take(facts[:, 2]),
                "confidence": np.ones(len(facts)),
                "source": ["s"] * len(facts),
            }
        ),
        sources=pa.table({"source": ["s"], "kind": ["dataset"]}),
    )
    spent = []
    for _ in range(3):  # the best of three: the machine may be busy
        start = time.process_time()
        ckg = CollaborativeKG.from_graph(graph)
        spent.append(time.process_time() - start)
    assert len(ckg.triples) == len(facts)
    assert min(spent) < 1.0
