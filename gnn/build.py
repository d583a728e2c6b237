"""From names and parameters to a model on a graph."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from gnn.data import TrainingGraph, fingerprint, prune_entities
from gnn.memory import require_memory, training_need
from gnn.recommender import Recommender
from gnn.sampling import Sampler
from kg.ckg import CollaborativeKG
from kg.config import build_config, config_dict
from kg.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class TrainConfig:
    """How any model is trained; closed-form models use `seed`, `device` and `min_entity_degree` only.

    Attributes:
        epochs: at most so many.
        batch_size: interactions a step.
        sampler: `interaction` takes each train interaction once an epoch; `user` every user equally often.
        lr: learning rate of Adam.
        eval_every: epochs between two evaluations.
        patience: stop after so many evaluations without a better `metric`; 0 never stops early.
        metric: what decides which epoch is kept.
        paper_protocol: evaluate on `test` while training and keep the best epoch there, as LightGCN's and KGAT's papers
            do. It flatters; use it only to reproduce published numbers.
        checkpoint_every: epochs between two checkpoints, where there is a place for them; 0 for none.
        seed: of initial values, batches, negatives and dropout.
        deterministic: on a GPU, use only operations that give the same bits every time, and refuse others; cuBLAS wants
            CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment then. On the CPU every training does so anyway.
        device: `auto` takes a CUDA device if there is one.
        min_entity_degree: entities that fewer facts name are left out with their facts; 1 keeps all.
    """

    epochs: int = 60
    batch_size: int = 4096
    sampler: Sampler = "interaction"
    lr: float = 0.01
    eval_every: int = 2
    patience: int = 5
    metric: Literal["recall@20", "ndcg@20"] = "ndcg@20"
    paper_protocol: bool = False
    checkpoint_every: int = 5
    seed: int = 0
    deterministic: bool = False
    device: str = "auto"
    min_entity_degree: int = 1

    def __post_init__(self) -> None:
        """Check the ranges."""
        at_least_one = ("epochs", "batch_size", "eval_every", "min_entity_degree")
        for name in (*at_least_one, "patience", "checkpoint_every", "seed"):
            low = 1 if name in at_least_one else 0
            if getattr(self, name) < low:
                msg = f"`{name}` is {getattr(self, name)}; expected at least {low}"
                raise ConfigError(msg)
        if not 0 < self.lr < float("inf"):
            msg = f"`lr` is {self.lr}; expected a number above 0"
            raise ConfigError(msg)


def configure(model_name: str, values: Mapping[str, Any], *, where: str = "") -> tuple[dict[str, Any], TrainConfig]:
    """Tell the parameters of a model from those of the loop, and check both.

    Args:
        model_name: a member of `gnn.models`.
        values: parameter name -> value of either, e.g. a table of a TOML file with `--set` values on top.
        where: where they came from, named in errors.

    Returns:
        What `train` takes: the model's parameters and the loop's configuration.

    Raises:
        UnknownNameError: if no model has this name.
        ConfigError: for an unknown parameter, a wrong type or a value out of range.
    """
    member = Recommender.find(model_name)
    own = {f.name for f in dataclasses.fields(member.Config)}
    loop = {f.name for f in dataclasses.fields(TrainConfig)}
    for name in values:
        if name not in own | loop:
            msg = f"unknown parameter `{name}` for model `{model_name}`; {did_you_mean(name, own | loop)}"
            raise ConfigError(msg)
    model_values = {name: value for name, value in values.items() if name in own}
    build_config(member.Config, model_values, where=where)
    loop_values = {name: value for name, value in values.items() if name not in own}
    return model_values, build_config(TrainConfig, loop_values, where=where)


def build_model(
    model_name: str,
    ckg: CollaborativeKG,
    model_config: Mapping[str, Any],
    config: TrainConfig,
    *,
    to_train: bool = True,
) -> Recommender:
    """Build an untrained model on a graph; equal arguments give equal parameters.

    Args:
        model_name: a member of `gnn.models`.
        ckg: the graph, split.
        model_config: the model's parameters; what is not given has its default.
        config: the loop's parameters.
        to_train: whether there must be memory for training it, too, not only for its parameters and the graph.

    Raises:
        UnknownNameError: if no model has this name.
        ConfigError: for an unknown parameter or one out of range.
        InputError: for a graph that cannot be trained on.
        MemoryNeedError: if there is not enough memory; nothing of the model has been made then.
    """
    member = Recommender.find(model_name)
    parameters = build_config(member.Config, model_config, where=f"model `{model_name}`")
    device, pruned = device_of(config.device), prune_entities(ckg, config.min_entity_degree)
    need = training_need(pruned, parameters, len(member.objectives) if to_train else 0, config.batch_size)
    work = f"{'training' if to_train else 'loading'} {model_name} on {pruned.n_nodes} nodes"
    advice = f"in GiB: {need}; lower `dim` or `batch_size`, or use a machine with more memory"
    require_memory(need.total, work, advice=advice, device=device)
    graph = TrainingGraph.from_ckg(pruned, device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return member(parameters, graph)


def identity_of(model: Recommender, ckg: CollaborativeKG, config: TrainConfig) -> dict[str, Any]:
    """Return what makes two runs the same run: model, both configurations and the graph, as plain values."""
    return {
        "model": model.name,
        "model_config": config_dict(model.config),
        "train_config": config_dict(config),
        "graph": fingerprint(ckg),
    }


def device_of(name: str) -> torch.device:
    """Return the device that `TrainConfig.device` names.

    Raises:
        ConfigError: if torch cannot use it here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        msg = f"`device` is `{name}`, which torch cannot use here: {str(error).splitlines()[0]}; try `auto` or `cpu`"
        raise ConfigError(msg) from error
