"""A run's directory, read back: what the report, the notebooks and later tools start from."""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from kg.config import config_dict
from kg.files import code_version, read_graph, read_manifest, whole_file, write_json
from kg.machine import cpu_model
from kglift.bench import TABLES
from kglift.errors import RunError
from kglift.plan import RunPlan
from kglift.report import RunRecord, build_report, render_html
from kglift.stages import STAGE_FORMAT

_ABOUT = "run.json"
_LIBRARIES = ("torch", "torch-geometric", "numpy", "pyarrow", "xllamacpp", "ladybug", "neo4j")


def describe_run(plan: RunPlan, root: Path) -> None:
    """Write `run.json`: the resolved plan, and the versions, commit and device that it runs with."""
    import torch

    about = {
        "kglift": code_version(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "machine": f"{cpu_model()}, {os.cpu_count()} cores",
    }
    write_json({"name": plan.name, "config": config_dict(plan), "about": about}, root / _ABOUT)


def load_record(root: Path) -> RunRecord:
    """Read everything that a report shows from a run's directory.

    Raises:
        RunError: if a stage is missing.
        FileFormatError: if a stage's directory is damaged.
    """
    run = _read_json(root / _ABOUT)
    fuse, bench = root / "fuse", read_manifest(root / "bench", STAGE_FORMAT)
    run["config"]["bench"]["primary"] = bench["config"]["primary"]  # as it was named before the results were there
    tables = {name: _table(root, name) for name in TABLES}
    return RunRecord(
        name=run["name"],
        config=run["config"],
        base=read_graph(root / "data"),
        fused=read_graph(fuse),
        extractions=[_read_json(root / f"extract-{s['method']}" / "summary.json") for s in run["config"]["extract"]],
        fusion=_read_json(fuse / "fusion.json"),
        checks=_read_json(fuse / "checks.json")["findings"],
        explanations=_read_json(root / "explain" / "explanations.json"),
        about={**run["about"], "kglift": bench["code"]},
        **tables,
    )


def write_report(root: Path) -> dict[str, Any]:
    """Write a run's `report.json` and `report.html`, and return the report.

    Raises:
        RunError: if a stage is missing.
    """
    report = build_report(load_record(root))
    write_json(report, root / "report.json")
    with whole_file(root / "report.html", overwrite=True, text=True) as out:
        out.write(render_html(report))
    return report


def _table(root: Path, name: str) -> Any:
    path = root / "bench" / f"{name}.parquet"
    if not path.exists():
        raise RunError(_missing(path))
    return pq.read_table(path)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(_missing(path)) from error


def _missing(path: Path) -> str:
    return f"`{path}` is missing, so the run is not finished; run `kglift run` on it again, which goes on where it was"
