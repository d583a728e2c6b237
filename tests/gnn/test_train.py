"""The loop: stops early, goes on after a kill to the same end, and says what it cannot do."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from gnn.build import TrainConfig, build_model, configure
from gnn.checkpoint import Trained, load_model
from gnn.errors import CheckpointError, InputError
from gnn.evaluate import evaluate
from gnn.models.lightgcn import LightGCN
from gnn.train import train
from kg.errors import ConfigError, FormatVersionError, HalfWrittenError, UnknownNameError, WriteError
from tests.gnn.graphs import random_ckg

CKG = random_ckg(11, n_users=20, n_items=15)
CONFIG = TrainConfig(epochs=12, batch_size=16, lr=0.02, patience=0, checkpoint_every=1, device="cpu")
SMALL: dict[str, dict[str, Any]] = {"lightgcn": {"dim": 8}, "kgat": {"dim": 8, "layers": [8, 4], "relation_dim": 6}}


class Killed(BaseException):
    """Stands for a kill between two epochs."""


def run(name: str, out: Path | None, *, kill_after: int | None = None, **changes: Any) -> Trained:
    def progress(done: int, total: int | None, note: str = "") -> None:
        if done == kill_after:
            raise Killed

    return train(name, CKG, SMALL.get(name, {}), dataclasses.replace(CONFIG, **changes), out, progress)


def assert_same(one: Trained, other: Trained) -> None:
    states = [t.model.state_dict() for t in (one, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert one.curve.drop(["seconds"]).equals(other.curve.drop(["seconds"]))
    assert one.best_epoch == other.best_epoch


@pytest.mark.parametrize("name", ["lightgcn", "kgat"])
def test_a_run_that_was_killed_twice_ends_bit_equal(name: str, tmp_path: Path) -> None:
    whole = run(name, None)
    kills = sorted(random.Random(name).sample(range(1, CONFIG.epochs), 2))
    for epoch in kills:
        with pytest.raises(Killed):
            run(name, tmp_path / "model", kill_after=epoch)
        assert not (tmp_path / "model").exists()
        (tmp_path / ".model.checkpoint.partial-999999999").write_bytes(b"what a kill in the middle of writing leaves")
    assert_same(run(name, tmp_path / "model"), whole)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_sparse_checkpoints_lose_epochs_and_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run("lightgcn", tmp_path / "model", kill_after=9, checkpoint_every=4)
    seen: list[int] = []
    config = dataclasses.replace(CONFIG, checkpoint_every=4)
    again = train("lightgcn", CKG, SMALL["lightgcn"], config, tmp_path / "model", lambda done, *_: seen.append(done))
    assert seen == [9, 10, 11, 12]
    assert_same(again, run("lightgcn", None))


@pytest.mark.slow
def test_a_process_killed_at_any_time_ends_bit_equal(tmp_path: Path) -> None:
    out, rng = tmp_path / "model", random.Random(0)
    code = (
        "import torch; torch.set_num_threads(1)\n"
        "from pathlib import Path; from tests.gnn.test_train import run\n"
        f"run('kgat', Path({str(out)!r}), epochs=60)"
    )
    for stop in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL):
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        while not out.with_name("model.checkpoint").exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1))
        process.send_signal(stop)
        process.wait()
    subprocess.run([sys.executable, "-c", code], check=not out.exists())
    whole, loaded = run("kgat", None, epochs=60), load_model(out, CKG)
    users = torch.arange(CKG.n_users)
    assert torch.equal(loaded.scores(users), whole.model.scores(users))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model"]


def test_training_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    run("kgat", None, epochs=1)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("is_wanted", [True, False])
def test_determinism_is_asked_of_torch_while_training_only(is_wanted: bool) -> None:
    seen: list[bool] = []
    config = dataclasses.replace(CONFIG, epochs=1, deterministic=is_wanted)
    train(
        "kgat",
        CKG,
        SMALL["kgat"],
        config,
        progress=lambda *_: seen.append(torch.are_deterministic_algorithms_enabled()),
    )
    assert seen == [is_wanted]
    assert not torch.are_deterministic_algorithms_enabled()


def test_early_stopping_keeps_the_best_epoch_on_valid() -> None:
    trained = run("lightgcn", None, epochs=200, lr=0.2, patience=3, eval_every=1)
    curve = trained.curve.to_pandas()
    assert len(curve) < 200
    assert trained.best_epoch == curve["epoch"][curve["ndcg@20"].idxmax()] == len(curve) - 3
    kept = evaluate(trained.model, CKG, "valid").metrics["ndcg@20"]
    assert kept == pytest.approx(curve["ndcg@20"].max())


def test_the_paper_protocol_watches_test_and_says_so() -> None:
    notes: list[str] = []
    config = dataclasses.replace(CONFIG, paper_protocol=True, metric="recall@20", eval_every=1)
    trained = train("lightgcn", CKG, SMALL["lightgcn"], config, progress=lambda d, t, note="": notes.append(note))
    kept = evaluate(trained.model, CKG, "test").metrics["recall@20"]
    assert kept == pytest.approx(max(trained.curve["recall@20"].to_pylist()))
    assert all(note.endswith("on test") for note in notes)


def test_without_valid_the_last_epoch_is_kept() -> None:
    ckg = dataclasses.replace(CKG, interactions={**CKG.interactions, "valid": CKG.interactions["valid"][:0]})
    trained = train("lightgcn", ckg, {}, dataclasses.replace(CONFIG, epochs=4, patience=1))
    assert trained.best_epoch == len(trained.curve) == 4
    assert trained.curve["ndcg@20"].null_count == 4


def test_a_closed_form_model_has_no_epoch_and_its_fit_is_timed() -> None:
    trained = run("ease", None)
    assert (trained.best_epoch, len(trained.curve)) == (0, 0)
    assert trained.seconds > 0


def test_a_diverging_run_is_stopped_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LightGCN, "fused_step", lambda *_: lambda batch: torch.tensor(torch.nan))
    with pytest.raises(InputError, match=r"the loss is NaN in epoch 1; train with a smaller `lr` than 0\.02"):
        run("lightgcn", None)


def test_a_taken_place_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="exists already"):
        run("lightgcn", tmp_path, kill_after=1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"seed": 1}, 'configuration of the training: .*"seed": 0.*"seed": 1'), ({"name": "kgat"}, "another model:")],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(Killed):
        run("lightgcn", tmp_path / "model", kill_after=2)
    with pytest.raises(CheckpointError, match=said):
        run(**{"name": "lightgcn", "out": tmp_path / "model", **changes})


def test_a_damaged_checkpoint_and_one_of_another_version_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run("lightgcn", tmp_path / "model", kill_after=2)
    path = tmp_path / "model.checkpoint"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="is not readable"):
        run("lightgcn", tmp_path / "model")
    path.write_bytes(content)
    torch.save({**torch.load(path, weights_only=True), "version": 0}, path)
    with pytest.raises(CheckpointError, match="is of another version: 0, expected 1"):
        run("lightgcn", tmp_path / "model")


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Killed):
        run("lightgcn", tmp_path / "model", kill_after=2)
    before = (tmp_path / "model.checkpoint").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="No space left on device"):
        run("lightgcn", tmp_path / "model")
    assert (tmp_path / "model.checkpoint").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.checkpoint"]


def test_a_model_directory_of_another_graph_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "model"
    run("lightgcn", out, epochs=1)
    with pytest.raises(CheckpointError, match="is of another graph"):
        load_model(out, random_ckg(12, n_users=20, n_items=15))
    manifest = (out / "manifest.json").read_text()
    (out / "manifest.json").write_text(manifest.replace('"dim": 8', '"dim": 9'))
    with pytest.raises(CheckpointError, match="does not fit `lightgcn`: size mismatch for embedding"):
        load_model(out, CKG)
    (out / "manifest.json").write_text(manifest.replace('"version": 1', '"version": 99'))
    with pytest.raises(FormatVersionError, match="format version 99"):
        load_model(out, CKG)
    (out / "manifest.json").write_text(manifest)
    (out / "state.pt").write_bytes(b"")
    with pytest.raises(HalfWrittenError, match=r"state\.pt` is not what was written"):
        load_model(out, CKG)


def test_vectors_of_a_saved_model_serve_without_torch(tmp_path: Path) -> None:
    trained = run("kgat", tmp_path / "model", min_entity_degree=2)
    users, items = (pq.read_table(tmp_path / "model" / f"{kind}.parquet") for kind in ("users", "items"))
    assert users["user_id"].to_pylist() == list(CKG.nodes.ids[:20])
    assert items["item_id"].to_pylist() == list(CKG.nodes.ids[20:35])
    product = torch.tensor(users["vector"].to_pylist()) @ torch.tensor(items["vector"].to_pylist()).T
    torch.testing.assert_close(product, trained.model.scores(torch.arange(20)))


def test_bad_parameters_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean `lightgcn`"):
        run("lightgnc", None)
    with pytest.raises(ConfigError, match=r"unknown parameter `dmi` for model `lightgcn`; did you mean `dim`"):
        configure("lightgcn", {"dmi": 3})
    for name, value in (("epochs", 0), ("batch_size", 0), ("seed", -1), ("lr", 0.0), ("lr", float("nan"))):
        with pytest.raises(ConfigError, match=f"`{name}` is {value}"):
            dataclasses.replace(CONFIG, **{name: value})
    with pytest.raises(ConfigError, match="`device` is `tpu9`, which torch cannot use here"):
        build_model("popularity", CKG, {}, dataclasses.replace(CONFIG, device="tpu9"))


def test_settings_are_told_apart() -> None:
    model_values, config = configure("kgat", {"dim": 8, "layers": [4], "lr": 0.5})
    assert model_values == {"dim": 8, "layers": [4]}
    assert config == TrainConfig(lr=0.5)
