"""The byte counts equal sums done by hand on a graph of five nodes."""

import pytest

from gnn.bench import cuda_model
from gnn.bench.cuda_model import FactSizes, InteractionSizes

SMALL = InteractionSizes(n_users=2, n_items=3, n_train=4, touched=0.5)  # 5 nodes, 8 edges
FACTS = FactSizes(n_nodes=5, n_edges=8, n_train=3)


def test_a_lightgcn_step_counts_every_array_of_every_kernel() -> None:
    found = cuda_model.lightgcn_step(SMALL, dim=2, n_layers=3, batch_size=1)
    # rows of 8 bytes: a table has 40, the batch's rows 24; offsets and scales 40, columns 32
    by_hand = {
        "first layer": (40 + 32 + 40 + 40, 8 * 8 + 8 * 4),
        "layer": (40 + 32 + 40 + 40, 8 * 8),
        "batch layer": (40 + 16 + 20 + 24 + 24, 4 * 8),
        "loss": (24 + 24, 0),
        "row gradient": (4 * 8 + 24, 0),
        "first backward layer": (40 + 32 + 20 + 24 + 40, 8 * 4 + 4 * 8 + 4 * 4),
        "backward layer": (40 + 32 + 20 + 24 + 40, 8 * 8),
        "backward layer and Adam": (40 + 32 + 20 + 24 + 6 * 40, 8 * 8),
    }
    assert {k.kernel: (k.streamed, k.gathered) for k in found} == by_hand
    assert len(cuda_model.lightgcn_step(SMALL, 2, 5, 1)) == len(by_hand) + 4


def test_a_table_is_compulsory_once_however_often_its_rows_are_fetched() -> None:
    first = cuda_model.lightgcn_step(SMALL, dim=2, n_layers=3, batch_size=1)[0]
    assert (first.moved, first.compulsory) == (152 + 96, 152 + 40 + 20)


def test_ranking_reads_and_writes_each_score_as_often_as_it_says() -> None:
    found = {k.kernel: k.moved for k in cuda_model.ranking(SMALL, dim=2, k=1)}
    best = {"block maxima": 6 * 4.125, "blocks": 6 * 0.625, "candidates": SMALL.n_users * 32 * 44}
    assert found == {"scores": 5 * 8 + 6 * 4, "mask": 4 * 20, **best}


def test_kgat_counts_products_layers_and_adam() -> None:
    found = cuda_model.kgat_interaction_step(FACTS, (4, 2))
    product = (20 + 64 + 80, 8 * 16)
    layer = (3 * 5 * 4 * (8 * 4 + 11.25 * 2), 0)
    assert [(k.streamed, k.gathered) for k in found] == [product, layer, product, (128, 0), (8 * 80, 0)]
    assert [k.moved for k in cuda_model.kgat_fact_step(FACTS, 4)] == [8 * 80]
    assert [k.moved for k in cuda_model.kgat_attention(FACTS, 4)] == [160 + 256]


def test_rows_are_labelled_as_predicted_and_are_bytes_over_bandwidth() -> None:
    found = cuda_model.rows()
    assert {row["device"] for row in found} == {"H100 (predicted)", "H200 (predicted)"}
    assert {row["task"] for row in found} == {"lightgcn-step", "lightgcn-epoch", "evaluation", "kgat-epoch"}
    for row in found:
        assert row["ms"] == pytest.approx(row["bytes"] / cuda_model.BANDWIDTH[row["device"]] * 1e3)
        assert 0 < row["floor_ms"] <= row["ms"]


def test_gowalla_gathers_what_the_floor_of_the_design_says() -> None:
    steps = cuda_model.lightgcn_step(cuda_model.GOWALLA, 64, 3, 2048)
    whole = cuda_model.GOWALLA.n_edges * 64 * 4
    assert sum(k.gathered for k in steps) / whole == pytest.approx(4.4, abs=0.1)
