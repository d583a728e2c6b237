"""Train and evaluate what an experiment lists; every run is kept on disk, and goes on where it was killed."""

import dataclasses
import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from gnn.build import TrainConfig, build_model, configure, identity_of
from gnn.checkpoint import load_checkpoint, load_model
from gnn.data import fingerprint
from gnn.errors import MemoryNeedError
from gnn.evaluate import Evaluation, evaluate
from gnn.experiments.peers import fit_als, why_not
from gnn.experiments.plan import DataPlan, Experiment
from gnn.export import MODEL_FORMAT
from gnn.recommender import Recommender
from gnn.train import train
from kg.ckg import CollaborativeKG
from kg.config import build_config, config_dict
from kg.controls import random_graph
from kg.errors import ConfigError, FileFormatError
from kg.files import atomic_directory, code_version, read_manifest, write_manifest
from kg.graph import Graph
from kg.progress import Progress, silent
from kg.source import Source
from kg.split import SplitConfig, split
from kg.terms import DATASET, TEST

RUN_FORMAT = "gnn-run"
_NO_CURVE = pa.Table.from_pylist(
    [], pa.schema([(name, pa.float64()) for name in ("epoch", "loss", "recall@20", "ndcg@20", "seconds")])
)


@dataclass(frozen=True)
class Run:
    """One training and its evaluation.

    Attributes:
        model: a name of `python -m gnn models`.
        graph: `none`, `kg` or `random`.
        seed: of the training, and of the random graph.
        config: the model's parameters, as `train` takes them, or those of a peer.
        loop: the loop's; None for a peer.
    """

    model: str
    graph: str
    seed: int
    config: dict[str, Any]
    loop: TrainConfig | None

    @property
    def title(self) -> str:
        """Model, graph and seed in one word."""
        return f"{self.model}-{self.graph}-{self.seed}"

    def directory(self, work: Path, data: str) -> Path:
        """Return where the run is kept: another parameter or data set gives another place, so nothing is stale.

        What is at its default does not count, so that a parameter that gnn learns later leaves earlier runs in place.

        Args:
            work: the folder of all runs.
            data: the fingerprint of the data set.
        """
        chosen = [self.config]
        if self.loop is not None:
            own = build_config(Recommender.find(self.model).Config, self.config)
            chosen = [_chosen(own), _chosen(self.loop)]
        text = json.dumps([data, *chosen], sort_keys=True)
        return work / f"{self.title}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes:
        run: which it was.
        state: `finished`; `refused` if this machine lacks the memory or the library; else `unfinished`.
        values: `reason` where refused; metrics, n_users, best_epoch, seconds, evaluation_seconds and the commit that
            trained where finished.
        curve: a row for each epoch, as `gnn.checkpoint.Trained` has it.
        per_user: user_id and a column for each metric, where finished.
    """

    run: Run
    state: str
    values: dict[str, Any]
    curve: pa.Table
    per_user: pa.Table


@dataclass(frozen=True)
class Data:
    """A data set as the runs need it, read once in each process."""

    graph: Graph
    ckg: CollaborativeKG
    sha256: str

    def variant(self, name: str, seed: int) -> CollaborativeKG:
        """Return the graph of a run: `none`, `kg`, or `random` with the facts rewired."""
        if name == "random":
            return CollaborativeKG.from_graph(random_graph(self.graph, seed, DATASET))
        return self.ckg if name == "kg" else self.ckg.without_triples()


def list_runs(experiment: Experiment) -> list[Run]:
    """List what an experiment runs, seed by seed, so that an early stop leaves whole comparisons."""
    runs = []
    for seed in experiment.protocol.seeds:
        for plan in experiment.models:
            config, loop = configure(plan.model, experiment.values_of(plan, seed))
            is_trained = bool(Recommender.find(plan.model).objectives)
            graphs = [g for g in plan.graphs if g == "random" or is_trained or seed == experiment.protocol.seeds[0]]
            runs += [Run(plan.model, graph, seed, config, loop) for graph in graphs]
    first = experiment.protocol.seeds[0]
    return [*runs, *(Run(peer.model, "none", first, peer.config, None) for peer in experiment.peers)]


def read_data(experiment: Experiment, folder: Path) -> Data:
    """Read and split the data set of an experiment.

    Args:
        experiment: says which.
        folder: of all data sets.

    Raises:
        FileFormatError: if it is not there or cannot be read.
        SplitError: if it cannot be split so.
    """
    return _read_data(json.dumps(config_dict(experiment.data)), experiment.split, folder)


def execute(experiment: Experiment, folder: Path, work: Path, jobs: int = 1, progress: Progress = silent) -> None:
    """Run what is not on disk yet.

    Args:
        experiment: what to run.
        folder: of all data sets.
        work: where runs are kept; a run that is there is not run again.
        jobs: how many runs at once, each in a process of its own with its share of the cores.
        progress: told after every epoch (one job) or every run (several).

    Raises:
        ConfigError: if `jobs` is below 1.
    """
    if jobs < 1:
        msg = f"`jobs` is {jobs}; expected at least 1"
        raise ConfigError(msg)
    data = read_data(experiment, folder)
    runs = list_runs(experiment)
    todo = [run for run in runs if not _is_done(run.directory(work, data.sha256))]
    done = len(runs) - len(todo)
    if jobs == 1:
        for run in todo:
            _execute_one(experiment, run, folder, work, _within(progress, done, len(runs), run.title))
            done += 1
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        futures = {pool.submit(_execute_one, experiment, run, folder, work): run for run in todo}
        try:
            for future in as_completed(futures):
                future.result()
                done += 1
                progress(done, len(runs), futures[future].title)
        except BaseException:
            for worker in multiprocessing.active_children():  # what they did is in their checkpoints
                worker.terminate()
            pool.shutdown(cancel_futures=True)
            raise


def collect(experiment: Experiment, folder: Path, work: Path) -> Iterator[Outcome]:
    """Yield what became of every run so far, in the order of `list_runs`; trains nothing."""
    data = read_data(experiment, folder)
    for run in list_runs(experiment):
        target = run.directory(work, data.sha256)
        if _is_done(target):
            values = json.loads((target / "values.json").read_text(encoding="utf-8"))
            tables = [pq.read_table(target / f"{name}.parquet") for name in ("curve", "per_user")]
            yield Outcome(run, "finished", values, *tables)
        else:
            yield _unfinished(run, data, _model_of(target))


def _execute_one(experiment: Experiment, run: Run, folder: Path, work: Path, progress: Progress = silent) -> None:
    data = read_data(experiment, folder)
    ckg = data.variant(run.graph, run.seed)
    target = run.directory(work, data.sha256)
    if run.loop is None:
        if why_not(run.model) is None:
            peer, seconds = fit_als(ckg, run.config, run.seed)
            found = evaluate(peer, ckg, TEST, experiment.protocol.ks)
            values = _values(found, 0, seconds, code_version()["commit"])
            _keep(Outcome(run, "finished", values, _NO_CURVE, found.per_user), target)
        return
    model_dir = _model_of(target)
    try:
        if not model_dir.exists():
            train(run.model, ckg, run.config, run.loop, model_dir, progress)
        found = evaluate(load_model(model_dir, ckg), ckg, TEST, experiment.protocol.ks)
    except MemoryNeedError:
        return  # `collect` says so, and a machine with more memory tries again
    manifest = read_manifest(model_dir, MODEL_FORMAT)
    values = _values(found, manifest["best_epoch"], manifest["seconds"], manifest["code"]["commit"])
    _keep(Outcome(run, "finished", values, pq.read_table(model_dir / "curve.parquet"), found.per_user), target)


def _values(found: Evaluation, best_epoch: int, seconds: float, commit: str | None) -> dict[str, Any]:
    times = {"seconds": seconds, "evaluation_seconds": found.seconds}
    return {"metrics": found.metrics, "n_users": found.n_users, "best_epoch": best_epoch, **times, "commit": commit}


def _keep(outcome: Outcome, target: Path) -> None:
    with atomic_directory(target) as partial:
        (partial / "values.json").write_text(json.dumps(outcome.values), encoding="utf-8")
        pq.write_table(outcome.per_user, partial / "per_user.parquet")
        pq.write_table(outcome.curve, partial / "curve.parquet")
        write_manifest(partial, RUN_FORMAT, config={"run": outcome.run.title}, seed=outcome.run.seed)


def _unfinished(run: Run, data: Data, model_dir: Path) -> Outcome:
    if run.loop is None:
        reason = why_not(run.model)
        return _without_result(run, "unfinished" if reason is None else "refused", reason)
    checkpoint = model_dir.with_name(f"{model_dir.name}.checkpoint")
    try:
        model = build_model(run.model, ckg := data.variant(run.graph, run.seed), run.config, run.loop)
    except MemoryNeedError as error:
        return _without_result(run, "refused", str(error))
    if not checkpoint.exists():
        return _without_result(run, "unfinished")
    rows = load_checkpoint(checkpoint, identity_of(model, ckg, run.loop)).curve
    return dataclasses.replace(_without_result(run, "unfinished"), curve=pa.Table.from_pylist(rows, _NO_CURVE.schema))


def _without_result(run: Run, state: str, reason: str | None = None) -> Outcome:
    return Outcome(run, state, {} if reason is None else {"reason": reason}, _NO_CURVE, pa.table({}))


def _chosen(config: Any) -> dict[str, Any]:
    default = config_dict(type(config)())
    return {name: value for name, value in config_dict(config).items() if value != default[name]}


def _model_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.model")


def _is_done(target: Path) -> bool:
    try:
        read_manifest(target, RUN_FORMAT)
    except FileFormatError:
        return False
    return True


def _within(progress: Progress, n_done: int, n_runs: int, title: str) -> Progress:
    def report(done: int, total: int | None, note: str = "") -> None:
        progress(n_done, n_runs, f"{title}: epoch {done}/{total}, {note}")

    return report


@cache
def _read_data(data: str, how: SplitConfig, folder: Path) -> Data:
    plan = build_config(DataPlan, json.loads(data))
    member = Source.find(plan.source)
    source = member(build_config(member.Config, plan.config, where="[data] config"))
    graph = split(source.read(folder / plan.path), how)
    ckg = CollaborativeKG.from_graph(graph)
    sha256 = hashlib.sha256(fingerprint(ckg).encode() + ckg.interactions[TEST].tobytes()).hexdigest()
    return Data(graph, ckg, sha256)
