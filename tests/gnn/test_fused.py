"""The fused step is autograd and Adam, only faster."""

import numpy as np
import pytest
import torch

from gnn.build import TrainConfig, build_model
from gnn.models.lightgcn import LightGCN
from gnn.sampling import InteractionBatch
from gnn.sparse import use_route
from gnn.train import train
from kg.ckg import CollaborativeKG
from tests.gnn.graphs import random_ckg

CKG = random_ckg(3, n_users=40, n_items=30, n_entities=10)
CONFIG = TrainConfig(device="cpu", epochs=3, batch_size=64, lr=1e-3, eval_every=3)


def batches(n: int) -> list[InteractionBatch]:
    """Users and items come up several times in one batch, also as positive of one and negative of another."""
    rng = np.random.default_rng(0)
    columns = [rng.integers(0, high, (n, 50)) for high in (40, 12, 12)]
    return [InteractionBatch(*(torch.from_numpy(column[k]) for column in columns)) for k in range(n)]


def stepped(ckg: CollaborativeKG, n_steps: int, *, fused: bool, **config: object) -> tuple[LightGCN, list[float], dict]:
    model = build_model("lightgcn", ckg, {"dim": 16, **config}, CONFIG)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    step, losses = model.fused_step("interactions", optimiser), []
    for batch in batches(n_steps):
        if fused:
            losses.append(step(batch).item())
            continue
        optimiser.zero_grad()
        with use_route("torch"):
            loss = model.loss(batch)
            loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return model, losses, optimiser.state[model.embedding]


@pytest.mark.parametrize("n_layers", [1, 2, 3, 4])
@pytest.mark.parametrize("fact_weight", [0.0, 0.7])
def test_two_fused_steps_equal_two_of_autograd_and_adam(n_layers: int, fact_weight: float) -> None:
    config = {"n_layers": n_layers, "fact_weight": fact_weight, "l2": 1e-2}
    model, losses, state = stepped(CKG, 2, fused=True, **config)
    oracle, expected, oracle_state = stepped(CKG, 2, fused=False, **config)
    assert losses == pytest.approx(expected, abs=1e-6)
    assert (model.embedding - oracle.embedding).abs().max() < 1e-6
    assert state["step"] == oracle_state["step"] == 2
    for name in ("exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(state[name], oracle_state[name], rtol=1e-4, atol=1e-9)


def test_tables_in_bfloat16_change_a_step_by_less_than_their_rounding() -> None:
    model, losses, _ = stepped(CKG, 2, fused=True, storage="bfloat16")
    exact, expected, _ = stepped(CKG, 2, fused=False)
    assert losses == pytest.approx(expected, rel=1e-3)
    assert 0 < (model.embedding - exact.embedding).abs().max() < 2e-3  # two steps of lr 1e-3


def test_a_parameter_that_somebody_else_wrote_is_read_again() -> None:
    model = build_model("lightgcn", CKG, {"dim": 16}, CONFIG)
    step = model.fused_step("interactions", torch.optim.Adam(model.parameters()))
    batch = batches(1)[0]
    first = step(batch).item()
    with torch.no_grad():
        model.embedding.mul_(2.0)
        expected = model.loss(batch).item()
    assert step(batch).item() == pytest.approx(expected, abs=1e-6) != first


def test_the_number_of_threads_changes_no_bit() -> None:
    alone, _, _ = stepped(CKG, 3, fused=True)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        together, _, _ = stepped(CKG, 3, fused=True)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(alone.embedding, together.embedding)


def test_training_takes_the_fused_step_and_comes_to_the_same_vectors() -> None:
    model = train("lightgcn", CKG, {"dim": 16}, CONFIG).model
    with use_route("torch"):
        oracle = train("lightgcn", CKG, {"dim": 16}, CONFIG).model
        assert oracle.fused_step("interactions", torch.optim.Adam(oracle.parameters())) is None
    for one, other in zip(model.vectors(), oracle.vectors(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
