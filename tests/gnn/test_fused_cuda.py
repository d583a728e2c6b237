"""The fused step on CUDA equals autograd and torch's Adam: interpreted where there is no GPU, else on it."""

import copy
from typing import Any

import pytest
import torch

from gnn.build import TrainConfig
from gnn.data import TrainingGraph
from gnn.errors import InputError
from gnn.fused_cuda import CudaLightGCNStep
from gnn.kernels import triton_plan
from gnn.models.lightgcn import LightGCN
from gnn.sampling import InteractionBatch
from gnn.sparse import use_route
from gnn.train import train
from tests.gnn.graphs import random_ckg
from tests.gnn.test_triton import DEVICE, HAS_GPU, needs_gpu

N_USERS, N_ITEMS = 4, 5
CKG = random_ckg(0, N_USERS, N_ITEMS, n_entities=3)
N_STEPS = 4 if HAS_GPU else 2  # on a GPU the second step is captured, and later ones replay it


def batch(turn: int, size: int = 3) -> InteractionBatch:
    """Nodes come up again within a batch, as positive and negative too; two turns running share one item only."""
    columns = (((0, 0, 1), (0, 1, 1), (1, 2, 0)), ((2, 3, 2), (3, 3, 4), (4, 2, 3)))[turn % 2]
    return InteractionBatch(*(torch.tensor(column[:size], device=DEVICE) for column in columns))


def lightgcn(n_layers: int, **config: Any) -> tuple[LightGCN, torch.optim.Adam]:
    graph = TrainingGraph.from_ckg(CKG, DEVICE)
    torch.manual_seed(0)
    model = LightGCN(LightGCN.Config(**{"dim": 4, "l2": 0.01, "n_layers": n_layers, **config}), graph)
    return model, torch.optim.Adam(model.parameters(), lr=0.01, fused=True)


def fused(model: LightGCN, optimiser: torch.optim.Adam) -> CudaLightGCNStep:
    with use_route("cuda"):
        step = model.fused_step("interactions", optimiser)
    assert isinstance(step, CudaLightGCNStep)
    return step


def by_autograd(model: LightGCN, optimiser: torch.optim.Adam, drawn: InteractionBatch) -> torch.Tensor:
    with use_route("torch"):
        optimiser.zero_grad()
        loss = model.loss(drawn)
        loss.backward()
        optimiser.step()
    return loss.detach()


@pytest.mark.parametrize(
    ("n_layers", "fact_weight", "dim"),
    [(1, 1.0, 4), pytest.param(2, 0.0, 3, marks=pytest.mark.slow), pytest.param(3, 1.0, 4, marks=pytest.mark.slow)],
)
def test_loss_parameters_and_moments_equal_autograd(
    n_layers: int, fact_weight: float, dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_plan, "SPLIT", 1)  # so that there are long rows
    (model, optimiser), (oracle, its_optimiser) = (
        lightgcn(n_layers, fact_weight=fact_weight, dim=dim) for _ in range(2)
    )
    assert len(triton_plan.parts_of(model.normalised.csr)) > 0
    step = fused(model, optimiser)
    for turn in range(N_STEPS):
        expected = by_autograd(oracle, its_optimiser, batch(turn))
        torch.testing.assert_close(step(batch(turn)), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(model.embedding, oracle.embedding, atol=1e-6, rtol=0)
    state, expected_state = optimiser.state[model.embedding], its_optimiser.state[oracle.embedding]
    for name in ("step", "exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(state[name], expected_state[name], atol=1e-7, rtol=1e-5)


def test_a_state_that_autograd_left_is_gone_on_from_and_a_new_rate_is_taken_over() -> None:
    (model, optimiser), (oracle, its_optimiser) = lightgcn(1), lightgcn(1)
    step = fused(model, optimiser)
    step(batch(0))
    by_autograd(oracle, its_optimiser, batch(1))
    model.load_state_dict(oracle.state_dict())
    optimiser.load_state_dict(copy.deepcopy(its_optimiser.state_dict()))
    for each in (optimiser, its_optimiser):
        each.param_groups[0]["lr"] = 0.1
    expected = by_autograd(oracle, its_optimiser, batch(2))
    torch.testing.assert_close(step(batch(2)), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(model.embedding, oracle.embedding, atol=1e-6, rtol=0)


@pytest.mark.slow
def test_the_same_batches_give_the_same_bits() -> None:
    ends = []
    for _ in range(2):
        model, optimiser = lightgcn(2)
        step = fused(model, optimiser)
        losses = [step(batch(turn)) for turn in range(N_STEPS)]
        ends.append(torch.cat([model.embedding.detach().flatten(), torch.stack(losses)]))
    assert torch.equal(*ends)


def test_tables_of_bfloat16_change_the_step_by_their_rounding_only() -> None:
    step, (oracle, its_optimiser) = fused(*lightgcn(2, storage="bfloat16")), lightgcn(2)
    error = float((step(batch(0)) - by_autograd(oracle, its_optimiser, batch(0))).abs())
    assert 1e-7 < error < 1e-3


@pytest.mark.parametrize("name", ["weight_decay", "amsgrad", "maximize"])
def test_another_adam_is_refused(name: str) -> None:
    model, _ = lightgcn(1)
    optimiser = torch.optim.Adam(model.parameters(), **{name: 1})
    with pytest.raises(InputError, match=rf"has `{name}` set to 1; the fused step expects a plain Adam"):
        fused(model, optimiser)(batch(0))


def test_a_count_of_steps_elsewhere_is_refused() -> None:
    model, optimiser = lightgcn(1)
    optimiser.state[model.embedding]["step"] = torch.zeros((), device="meta")
    with pytest.raises(InputError, match=r"counts its steps on `meta`; expected .*`fused=True`"):
        fused(model, optimiser)(batch(0))


def test_a_model_without_layers_is_refused() -> None:
    model, optimiser = lightgcn(0)
    with pytest.raises(InputError, match=r"`n_layers` is 0; the fused step expects at least 1"):
        CudaLightGCNStep(model.embedding, model.normalised, optimiser, n_users=N_USERS, n_layers=0, l2=0.0)


@pytest.mark.slow
def test_training_takes_the_step_and_comes_to_the_same_vectors() -> None:
    config = TrainConfig(device=DEVICE.type, epochs=2, batch_size=5, lr=1e-2, eval_every=2)
    with use_route("cuda"):
        model = train("lightgcn", CKG, {"dim": 4}, config).model
    with use_route("torch"):
        oracle = train("lightgcn", CKG, {"dim": 4}, config).model
    for one, other in zip(model.vectors(), oracle.vectors(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@needs_gpu
def test_replays_of_a_graph_equal_steps_kernel_by_kernel_and_sizes_may_change() -> None:
    (model, optimiser), (other, its_optimiser) = lightgcn(3), lightgcn(3)
    step, eager = fused(model, optimiser), fused(other, its_optimiser)
    for turn, size in enumerate((3, 3, 3, 2, 3, 2)):
        eager._replays.clear()
        assert torch.equal(step(batch(turn, size)), eager(batch(turn, size)))
    assert torch.equal(model.embedding, other.embedding)
    assert all(replay is not None for replay in step._replays.values())
