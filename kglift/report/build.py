"""Every figure of the report, computed once from a `RunRecord`: the content of `report.json`."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from kglift.report.answers import with_examples
from kglift.report.comparison import METRICS, compare, primary_model
from kglift.report.graphs import describe_data, describe_graphs, neighbourhood, shown_user
from kglift.report.record import RunRecord
from kglift.report.verdict import judge

SCHEMA = "kglift-report"
VERSION = 1
_N_EXAMPLES = 10
_LONG = ("merged", "too_large", "conflicts", "dropped")


def build_report(record: RunRecord) -> dict[str, Any]:
    """Compute the report.

    Args:
        record: a finished run.

    Returns:
        Plain JSON values with these keys; a change of meaning raises `version`.

        - `schema`, `version`, `name`
        - `verdict`: outcome, sentence, reason, rule, model, metric, n_seeds, n_users, tests (see `verdict.judge`)
        - `comparison`: metrics, rows, tests (see `comparison.compare`)
        - `data`: name, n_users, n_items, n_interactions, density, splits (see `graphs.describe_data`), split (config)
        - `checks`: is_clean, findings
        - `extractions`: one summary for each method, with `examples` (see `answers.with_examples`)
        - `fusion`: rows of each table before and after; how many were merged, in conflict, too large and dropped, with
          the first ten of each
        - `graph`: totals, by_type, by_relation, degrees, neighbourhood (see `graphs`)
        - `curves`: model, graph, n_seeds, and lists epoch, loss, and for each metric mean, low, high over seeds
        - `explanations`: as `Explanation.to_dict`
        - `reproduce`: config, about (versions, commit, device), seeds

    Raises:
        RunError: if the run was not evaluated with the report's metrics.
    """
    comparison = compare(record)
    findings = [dict(c) for c in record.checks]
    users = [e["user"]["id"] for e in record.explanations]
    graph = describe_graphs(record.base, record.fused)
    report = {
        "schema": SCHEMA,
        "version": VERSION,
        "name": record.name,
        "verdict": judge(comparison, primary_model(record), findings),
        "comparison": comparison,
        "data": {
            **describe_data(record.base),
            "name": _data_name(record),
            "split": dict(record.config.get("split", {})),
        },
        "checks": {"is_clean": not any(f["severity"] == "error" for f in findings), "findings": findings},
        "extractions": [with_examples(e, record.fused) for e in record.extractions],
        "fusion": _fusion(record.fusion),
        "graph": {**graph, "neighbourhood": neighbourhood(record.fused, shown_user(record.fused, users))},
        "curves": _curves(record),
        "explanations": [dict(e) for e in record.explanations],
        "reproduce": {
            "config": dict(record.config),
            "about": dict(record.about),
            "seeds": sorted(set(record.results["seed"].to_pylist())),
        },
    }
    plain: dict[str, Any] = _plain(report)
    return plain


def _data_name(record: RunRecord) -> str:
    data = record.config.get("data", {})
    return str(data.get("dataset") or data.get("path") or record.name)


def _fusion(fusion: Mapping[str, Any]) -> dict[str, Any]:
    short = {f"n_{key}": len(fusion[key]) for key in _LONG if key in fusion}
    return {**{k: v for k, v in fusion.items() if k not in _LONG}, **short} | {
        key: list(fusion[key][:_N_EXAMPLES]) for key in _LONG if key in fusion
    }


def _curves(record: RunRecord) -> list[dict[str, Any]]:
    frame = record.curves.to_pandas()
    pairs = frame[["model", "graph"]].drop_duplicates().itertuples(index=False)
    return [_curve(m, g, frame[(frame["model"] == m) & (frame["graph"] == g)]) for m, g in pairs]


def _curve(model: str, graph: str, frame: pd.DataFrame) -> dict[str, Any]:
    by_epoch = frame.groupby("epoch", sort=True)
    curve: dict[str, Any] = {"model": model, "graph": graph, "n_seeds": int(frame["seed"].nunique())}
    losses = by_epoch["loss"].mean()
    curve["epoch"], curve["loss"] = losses.index.tolist(), losses.tolist()
    for metric in METRICS:
        values = by_epoch[metric]
        curve[metric] = {"mean": values.mean().tolist(), "low": values.min().tolist(), "high": values.max().tolist()}
    return curve


def _plain(value: Any) -> Any:
    """Return JSON values: floats to 6 significant digits, a missing or infinite number as null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
