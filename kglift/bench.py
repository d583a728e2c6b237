"""The comparison: models x graphs x seeds, each job trained and evaluated once and kept on disk."""

import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from kg.ckg import CollaborativeKG
from kg.controls import random_graph, without_source_kind
from kg.errors import FileFormatError
from kg.files import atomic_directory, read_graph, read_manifest, write_manifest
from kg.graph import Graph
from kg.progress import Progress, silent
from kg.terms import LLM
from kglift.plan import BenchPlan, ModelPlan

JOB_FORMAT = "kglift-job"
TABLES = ("results", "per_user", "curves")


@dataclass(frozen=True)
class Job:
    """One training and its evaluation.

    Attributes:
        plan: model, and the parameters of it and its training loop.
        graph: `none`, `kg`, `kg+llm` or `kg+random`.
        seed: of sampling, initialisation and, for `kg+random`, the random graph.
        ks: cut-offs of the metrics.
        keep_model: leave the trained model in `DIR/model`.
    """

    plan: ModelPlan
    graph: str
    seed: int
    ks: tuple[int, ...]
    keep_model: bool = False

    @property
    def key(self) -> str:
        """Name of the job's directory."""
        return f"{self.plan.model}-{self.graph}-{self.seed}"


def plan_jobs(bench: BenchPlan, models: Sequence[ModelPlan], seed: int) -> list[Job]:
    """List the jobs of a benchmark, seed by seed so that an early stop leaves whole comparisons."""
    jobs = [
        Job(plan, graph, seed + run, bench.ks, run == 0 and plan.model == bench.primary)
        for plan in models
        for graph in plan.graphs
        for run in range(plan.n_seeds or bench.n_seeds)
    ]
    return sorted(jobs, key=lambda job: job.seed)


def run_jobs(graph_dir: Path, jobs: Sequence[Job], jobs_dir: Path, progress: Progress = silent) -> dict[str, pa.Table]:
    """Run every job that is not on disk yet, on all cores, and collect the results.

    Args:
        graph_dir: directory of the fused graph.
        jobs: what to run.
        jobs_dir: where each job keeps its directory; a job that is there is not run again.
        progress: told after each job.

    Returns:
        Tables `results`, `per_user` and `curves`, with the columns model, graph, seed in front.
    """
    todo = [job for job in jobs if not _is_done(jobs_dir / job.key)]
    progress(len(jobs) - len(todo), len(jobs))
    n_workers = _n_workers(len(todo))
    threads = max(1, (os.cpu_count() or 1) // n_workers)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_workers, mp_context=context, initializer=_start, initargs=(threads,)) as pool:
        try:
            with _ctrl_c_is_ours():
                futures = {pool.submit(run_job, graph_dir, job, jobs_dir / job.key): job for job in todo}
            for count, future in enumerate(as_completed(futures), start=len(jobs) - len(todo) + 1):
                future.result()
                progress(count, len(jobs), futures[future].key)
        except BaseException:
            for worker in multiprocessing.active_children():  # what they did is in their checkpoints
                worker.terminate()
            pool.shutdown(cancel_futures=True)
            raise
    return {name: pa.concat_tables([_read(jobs_dir / job.key, name, job) for job in jobs]) for name in TABLES}


def run_job(graph_dir: Path, job: Job, target: Path) -> None:
    """Train and evaluate one job; its checkpoints lie beside `target` until it is done."""
    from gnn.build import configure
    from gnn.evaluate import evaluate
    from gnn.train import train

    ckg = variant(_graph(graph_dir), job.graph, job.seed)
    model_dir = target.with_name(target.name + ".model")
    parameters = {"seed": job.seed, **job.plan.config}
    config, loop = configure(job.plan.model, parameters, where=f"[[models]] `{job.plan.model}`")
    shutil.rmtree(model_dir, ignore_errors=True)  # finished, but killed before its evaluation was
    trained = train(job.plan.model, ckg, config, loop, model_dir)
    found = evaluate(trained.model, ckg, split="test", ks=job.ks)
    result = {**found.metrics, "n_users": found.n_users, "epoch": trained.best_epoch, "seconds": float(trained.seconds)}
    with atomic_directory(target, overwrite=True) as partial:
        pq.write_table(pa.table({k: [v] for k, v in result.items()}), partial / "results.parquet")
        pq.write_table(found.per_user, partial / "per_user.parquet")
        pq.write_table(trained.curve, partial / "curves.parquet")
        if job.keep_model:
            shutil.copytree(model_dir, partial / "model")
        write_manifest(partial, JOB_FORMAT, config={"job": job.key}, seed=job.seed)
    shutil.rmtree(model_dir, ignore_errors=True)


def variant(fused: Graph, name: str, seed: int) -> CollaborativeKG:
    """Return the graph a job trains on.

    Args:
        fused: the fused graph, with the facts of data sets and of the LLM.
        name: `none` = interactions only; `kg` = without what an LLM said; `kg+llm` = everything; `kg+random` = the
            LLM's facts replaced by random ones of equal number, relations and degrees.
        seed: of the random graph.
    """
    if name == "kg+llm":
        return CollaborativeKG.from_graph(fused)
    if name == "kg+random":
        return CollaborativeKG.from_graph(random_graph(fused, seed, LLM))
    known = CollaborativeKG.from_graph(without_source_kind(fused, LLM))
    return known.without_triples() if name == "none" else known


@cache
def _graph(path: Path) -> Graph:
    return read_graph(path)


def _n_workers(n_jobs: int) -> int:
    import torch

    if torch.cuda.is_available():
        return 1
    return max(1, min(os.cpu_count() or 1, n_jobs))


@contextmanager
def _ctrl_c_is_ours() -> Iterator[None]:
    """Start processes that never see Ctrl-C, not even while they import: they inherit the mask.

    A Ctrl-C that another thread gets meanwhile is raised when they are started, not between the halves of a start.
    """
    came: list[int] = []
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda number, _: came.append(number)) if is_main else None
    try:
        yield
    finally:
        if is_main:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if came:
        raise KeyboardInterrupt


def _start(n_threads: int) -> None:
    import torch

    torch.set_num_threads(n_threads)


def _is_done(directory: Path) -> bool:
    try:
        read_manifest(directory, JOB_FORMAT)
    except FileFormatError:
        return False
    return True


def _read(directory: Path, name: str, job: Job) -> pa.Table:
    table = pq.read_table(directory / f"{name}.parquet")
    about = {"model": job.plan.model, "graph": job.graph, "seed": job.seed}
    columns = {name: pa.repeat(pa.scalar(value), len(table)) for name, value in about.items()}
    return pa.table({**columns, **dict(zip(table.column_names, table.columns, strict=True))})
