"""What is kept of a training run: a checkpoint on the way, a model directory at the end."""

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from gnn.build import TrainConfig, build_model, identity_of
from gnn.data import fingerprint, prune_entities
from gnn.errors import CheckpointError
from gnn.export import MODEL_FORMAT, write_vectors
from gnn.recommender import Recommender
from kg.ckg import CollaborativeKG
from kg.config import build_config
from kg.files import atomic_directory, read_manifest, sweep, whole_file, write_manifest

_CHECKPOINT_VERSION = 1
_WORDS = {
    "version": "version",
    "model": "model",
    "model_config": "configuration of the model",
    "train_config": "configuration of the training",
    "graph": "graph (sha256 of nodes, train interactions and facts)",
}


@dataclass(frozen=True)
class Checkpoint:
    """Everything a run needs to go on after an epoch as if it had never stopped.

    Attributes:
        epoch: the last finished epoch, from 1.
        state: the model's state.
        optimisers: state of each objective's optimiser.
        curve: a row for each epoch.
        best_epoch: the best epoch so far, 0 for none.
        best_value: its metric.
        best_state: the model's state then.
        evaluations_since_best: evaluations since then.
    """

    epoch: int
    state: dict[str, Any]
    optimisers: dict[str, Any]
    curve: list[dict[str, float | None]]
    best_epoch: int
    best_value: float
    best_state: dict[str, Any]
    evaluations_since_best: int


@dataclass(frozen=True)
class Trained:
    """A trained model and how it came to be.

    Attributes:
        model: with the parameters of the best epoch, in evaluation mode.
        config: of the loop.
        curve: epoch, loss, recall@20, ndcg@20 (null where not evaluated), seconds (of the epoch); the loss
            is the mean over the steps of all objectives.
        best_epoch: the epoch that was kept, from 1; 0 for a closed-form model.
        seconds: training and validation together, over all starts.
    """

    model: Recommender
    config: TrainConfig
    curve: pa.Table
    best_epoch: int
    seconds: float


def save_checkpoint(path: Path, identity: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    """Write a checkpoint whole or not at all: the one before stays until this one is on disk.

    Raises:
        WriteError: if the disk is full or read-only.
    """
    content = {f.name: getattr(checkpoint, f.name) for f in checkpoint.__dataclass_fields__.values()}
    with whole_file(path, overwrite=True) as out:
        torch.save({"version": _CHECKPOINT_VERSION, **identity, "checkpoint": content}, out)


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint, and what a kill in the middle of writing one left beside it."""
    path.unlink(missing_ok=True)
    sweep(path)


def load_checkpoint(path: Path, identity: Mapping[str, Any]) -> Checkpoint:
    """Read a checkpoint of the same run.

    Raises:
        CheckpointError: if it is damaged, or of another model, graph, configuration or version.
    """
    saved = _load(path)
    _check_identity(saved, {"version": _CHECKPOINT_VERSION, **identity}, f"the checkpoint `{path}`")
    return Checkpoint(**saved["checkpoint"])


def save_model(trained: Trained, ckg: CollaborativeKG, path: Path) -> None:
    """Write a finished model as a directory, whole or not at all.

    It holds `state.pt`, `curve.parquet` and, where the model has vectors, what `gnn.serve` needs: see
    `gnn.export.write_vectors`.

    Args:
        trained: the model and its curve.
        ckg: the graph that it was trained on.
        path: the directory to make.

    Raises:
        WriteError: if the place is taken, or the disk is full or read-only.
    """
    model = trained.model
    with atomic_directory(path) as partial:
        torch.save(model.state_dict(), partial / "state.pt")
        pq.write_table(trained.curve, partial / "curve.parquet")
        vectors = model.vectors()
        if vectors is not None:
            seen_by_model = prune_entities(ckg, trained.config.min_entity_degree)
            write_vectors(partial, seen_by_model, *(table.detach().cpu().numpy() for table in vectors))
        counts = {"users": ckg.n_users, "items": ckg.n_items, "epochs": len(trained.curve)}
        identity = identity_of(model, ckg, trained.config)
        about = {"best_epoch": trained.best_epoch, "seconds": trained.seconds, "seed": trained.config.seed}
        write_manifest(partial, MODEL_FORMAT, counts=counts, **identity, **about)


def load_model(path: Path, ckg: CollaborativeKG) -> Recommender:
    """Read a finished model onto the graph that it was trained on.

    Raises:
        CheckpointError: if it was trained on another graph, or its state does not fit.
        FileFormatError: if `path` is no model directory, damaged, or of another version.
        MemoryNeedError: if there is not enough memory.
    """
    manifest = check_graph(path, ckg)
    config = build_config(TrainConfig, {**manifest["train_config"], "device": "auto"}, where=str(path))
    model = build_model(manifest["model"], ckg, manifest["model_config"], config, to_train=False)
    try:
        model.load_state_dict(_load(path / "state.pt"))
    except RuntimeError as error:
        msg = f"`{path}` does not fit `{manifest['model']}`: {str(error).splitlines()[-1].strip()}; train it again"
        raise CheckpointError(msg) from error
    return model.eval()


def check_graph(path: Path, ckg: CollaborativeKG) -> dict[str, Any]:
    """Check that a finished model was trained on this graph; return its manifest.

    Raises:
        CheckpointError: if it was trained on another graph.
        FileFormatError: if `path` is no model directory, damaged, or of another version.
    """
    manifest = read_manifest(path, MODEL_FORMAT)
    _check_identity(manifest, {"graph": fingerprint(ckg)}, f"the model `{path}`")
    return manifest


def _load(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        msg = f"`{path}` is not readable ({type(error).__name__}); it is damaged, remove it and train again"
        raise CheckpointError(msg) from error
    return content


def _check_identity(saved: Mapping[str, Any], expected: Mapping[str, Any], what: str) -> None:
    for key, word in _WORDS.items():
        if key in expected and saved.get(key) != expected[key]:
            shown = [json.dumps(x.get(key), sort_keys=True) for x in (saved, expected)]
            msg = f"{what} is of another {word}: {shown[0]}, expected {shown[1]}; remove it or give what it belongs to"
            raise CheckpointError(msg)
