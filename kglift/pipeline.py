"""The stages of `kglift run`: data -> extract -> fuse -> bench -> explain -> store -> report."""

import shutil
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from extract.ledger import Ledger
from extract.method import Method
from extract.provider import Provider
from extract.template import load_prompt
from kg.check import check
from kg.config import build_config, config_dict
from kg.files import atomic_directory, file_sha256, read_graph, write_graph, write_json, write_manifest
from kg.fuse import fuse
from kg.graph import Graph
from kg.progress import Progress
from kg.source import Source
from kg.split import split
from kglift.asking import ask
from kglift.bench import TABLES, plan_jobs, run_jobs
from kglift.downloads import fetch, find_offer
from kglift.explanations import explain_some
from kglift.fusing import encoder_for
from kglift.plan import Asking, DataPlan, ExtractPlan, LlmPlan, RunPlan
from kglift.settings import neo4j_settings, resolve_llm
from kglift.stages import STAGE_FORMAT, Stage, Workplace, only_run, run_stages
from kglift.stores import load_graph

_STORE_FILE, _LEDGER = "graph.lbug", "ledger.sqlite"
Bars = Callable[[str], AbstractContextManager[Progress]]


def run(
    plan: RunPlan, root: Path, bars: Bars, *, until: str = "", tell: Callable[[str, str], None] = lambda _n, _s: None
) -> None:
    """Run a plan; stages that are done are not done again, so after a kill the same call goes on.

    Args:
        plan: what to do.
        root: the run's directory; holds one directory a stage, the ledger of replies, the jobs and the report.
        bars: gives a progress bar for a title.
        until: stop after this stage; empty = all, and the report.
        tell: called as each stage starts, ends or is found done.
    """
    from kglift.runs import describe_run, write_report

    stages = plan_stages(plan, bars)
    with only_run(root):
        describe_run(plan, root)
        run_stages(stages, root, until=until, tell=tell)
        if not until:
            write_report(root)
            tell("report", "done")


def plan_stages(plan: RunPlan, bars: Bars) -> list[Stage]:
    """Turn a plan into stages.

    Raises:
        UnknownNameError: for a source, method, provider or model that does not exist.
        ConfigError: for a parameter that one of them does not have.
    """
    llm = resolve_llm(plan.llm)
    _check_members(plan, llm)
    extracts = [_extract_stage(plan, step, llm, bars) for step in plan.extract]
    names = tuple(stage.name for stage in extracts)
    jobs = plan_jobs(plan.bench, plan.models, plan.seed)
    return [
        Stage("data", lambda place: _make_data(plan, place), _data_settings(plan)),
        *extracts,
        Stage("fuse", lambda place: _make_fuse(plan, names, place), config_dict(plan.fuse), ("data", *names)),
        Stage(
            "bench",
            lambda place: _make_bench(plan, bars, place),
            {"jobs": [[j.key, j.plan.config] for j in jobs], **config_dict(plan.bench)},
            ("fuse",),
            STAGE_FORMAT,
        ),
        Stage("explain", lambda place: _make_explain(plan, bars, place), {}, ("fuse", "bench"), STAGE_FORMAT),
        Stage(
            "store", lambda place: _make_store(bars, place), _store_settings(), ("fuse",), STAGE_FORMAT, (_STORE_FILE,)
        ),
    ]


def _check_members(plan: RunPlan, llm: LlmPlan) -> None:
    """Find every wrong name and parameter before an LLM is paid."""
    from gnn.build import configure

    Provider.find(llm.provider)
    source = _source_of(plan.data)
    build_config(Source.find(source).Config, plan.data.config, where="[data.config]")
    for step in plan.extract:
        build_config(Method.find(step.method).Config, step.config, where=f"[extract.config] of `{step.method}`")
    for model in plan.models:
        configure(model.model, model.config, where=f"[models.config] of `{model.model}`")


def _source_of(data: DataPlan) -> str:
    return find_offer(data.dataset).source if data.dataset else data.source


def _data_settings(plan: RunPlan) -> dict[str, Any]:
    data = plan.data
    settings = {"source": data.source, "config": data.config, "split": config_dict(plan.split), "dataset": data.dataset}
    if data.dataset:
        return {**settings, "sha256": find_offer(data.dataset).sha256}
    return {**settings, "files": _content(data.path or Path())}


def _content(path: Path) -> dict[str, str]:
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return {p.relative_to(path).as_posix(): file_sha256(p) for p in files if p.is_file()}


def _make_data(plan: RunPlan, place: Workplace) -> None:
    cls = Source.find(_source_of(plan.data))
    path = fetch(plan.data.dataset) if plan.data.dataset else plan.data.path or Path()
    graph, report = cls(build_config(cls.Config, plan.data.config, where="[data.config]")).read_with_report(path)
    graph = split(graph, plan.split)
    write_graph(
        graph,
        place.target,
        config=place.config(data=config_dict(plan.data), split=config_dict(plan.split)),
        seed=plan.seed,
        overwrite=True,
        documents={"read.json": asdict(report)},
    )


def _extract_stage(plan: RunPlan, step: ExtractPlan, llm: LlmPlan, bars: Bars) -> Stage:
    cls = Method.find(step.method)
    prompts = [load_prompt(stem).sha for stem in (cls.prompt, *cls.later_prompts)]
    files = [Path(v) for v in (*step.config.values(), *llm.config.values()) if isinstance(v, str)]
    settings = {
        "step": config_dict(step),
        "llm": config_dict(llm),
        "engine": config_dict(plan.engine),
        "prompts": prompts,
        "files": {str(f): file_sha256(f) for f in files if f.is_file()},
    }
    return Stage(
        f"extract-{step.method}",
        lambda place: _make_extract(plan, step, llm, bars, place),
        settings,
        ("data",),
        holds=lambda place, config: _unit_counts(place.root / _LEDGER, config["units"]) == config["units"],
    )


def _unit_counts(ledger: Path, runs: Iterable[str]) -> dict[str, dict[str, int]]:
    """Count the units of runs by state: after `kglift extract retry`, and after a repair, the counts are others."""
    with Ledger(ledger) as opened:
        return {run: opened.counts(run) for run in runs}


def _make_extract(plan: RunPlan, step: ExtractPlan, llm: LlmPlan, bars: Bars, place: Workplace) -> None:
    ledger = place.root / _LEDGER
    with bars(step.method) as progress:
        found = ask(Asking(place.root / "data", step, llm, plan.engine, ledger), progress)
    units = _unit_counts(ledger, found.summary.runs)
    write_graph(
        found.graph,
        place.target,
        config=place.config(step=config_dict(step), engine=config_dict(plan.engine), units=units),
        seed=plan.seed,
        overwrite=True,
        documents={"summary.json": found.summary.to_dict()},
    )


def _make_fuse(plan: RunPlan, fragments: tuple[str, ...], place: Workplace) -> None:
    base = read_graph(place.root / "data")
    found = [read_graph(place.root / name) for name in fragments]
    fused, report = fuse(base, *found, config=plan.fuse, encode=encoder_for(plan.fuse))
    write_graph(
        fused,
        place.target,
        config=place.config(**config_dict(plan.fuse)),
        seed=plan.seed,
        overwrite=True,
        documents={"fusion.json": report.to_dict(), "checks.json": check(fused).to_dict()},
    )


def _make_bench(plan: RunPlan, bars: Bars, place: Workplace) -> None:
    jobs = plan_jobs(plan.bench, plan.models, plan.seed)
    jobs_dir = place.root / "jobs" / place.fingerprint[:12]
    with bars("train and evaluate") as progress:
        tables = run_jobs(place.root / "fuse", jobs, jobs_dir, progress)
    with atomic_directory(place.target, overwrite=True) as partial:
        for name in TABLES:
            pq.write_table(tables[name], partial / f"{name}.parquet")
        kept = next((job for job in jobs if job.keep_model and job.graph == "kg+llm"), None)
        if kept:
            shutil.copytree(jobs_dir / kept.key / "model", partial / "model")
        about = {"model": kept.key if kept else None, "primary": plan.bench.primary}
        write_manifest(partial, STAGE_FORMAT, config=place.config(**about), seed=plan.seed)


def _make_explain(plan: RunPlan, bars: Bars, place: Workplace) -> None:
    with bars("explain") as progress:
        explanations = explain_some(place.root, plan.bench.n_explained, plan.seed, progress)
    with atomic_directory(place.target, overwrite=True) as partial:
        write_json([e.to_dict() for e in explanations], partial / "explanations.json")
        write_manifest(partial, STAGE_FORMAT, config=place.config(), seed=plan.seed)


def _replace_store(graph: Graph, path: Path, progress: Progress) -> None:
    """Make the embedded store anew: a store only gains facts, and a run's store must hold what its models saw."""
    fresh = path.with_name(f".{path.name}.partial")
    for leftover in path.parent.glob(f"{fresh.name}*"):
        leftover.unlink()
    load_graph(graph, "ladybug", str(fresh), progress)
    fresh.replace(path)


def _store_settings() -> dict[str, Any]:
    server = neo4j_settings()
    return {"neo4j": [server.uri, server.database] if server else None}


def _make_store(bars: Bars, place: Workplace) -> None:
    graph = read_graph(place.root / "fuse")
    with bars("ladybug") as progress:
        _replace_store(graph, place.root / _STORE_FILE, progress)
    if neo4j_settings():
        with bars("neo4j") as progress:
            load_graph(graph, "neo4j", "", progress)
    with atomic_directory(place.target, overwrite=True) as partial:
        write_manifest(partial, STAGE_FORMAT, config=place.config(), counts=graph.counts())
