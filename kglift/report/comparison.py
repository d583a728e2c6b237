"""Models x graphs: means, bootstrap intervals over users, and paired tests over users."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from gnn.significance import bootstrap_interval, holm, paired_test
from kglift.errors import RunError
from kglift.report.record import GRAPH_NAMES, KG, KG_LLM, KG_RANDOM, NONE, RunRecord

METRICS = ("recall@20", "ndcg@20")
CONTROLS = (KG, KG_RANDOM, NONE)


def compare(record: RunRecord) -> dict[str, Any]:
    """Compute the comparison table and its tests.

    A model's value is the mean over seeds for each user, then the mean over users; the interval resamples users. The
    tests set KG + LLM against each control, user by user; Holm's correction runs over all tests of one metric.

    Args:
        record: a finished run.

    Returns:
        `metrics`; `rows`: model, graph, n_seeds, n_users, epoch, seconds, and for each metric mean, low, high, by_seed;
        `tests`: model, metric, against, difference, low, high, p_value, p_adjusted, n_users.

    Raises:
        RunError: if a metric of the report was not evaluated.
    """
    _check_metrics(record)
    results, per_user = record.results.to_pandas(), record.per_user.to_pandas()
    means = per_user.groupby(["model", "graph", "user_id"])[list(METRICS)].mean()
    pairs = means.index.droplevel("user_id").unique()
    models, graphs = results["model"].drop_duplicates().tolist(), list(GRAPH_NAMES)
    users = {(m, g): means.loc[m, g] for m in models for g in graphs if (m, g) in pairs}
    rows = [_row(results, key, group) for key, group in users.items()]
    tests = [test for metric in METRICS for test in _tests(users, metric)]
    return {"metrics": list(METRICS), "rows": rows, "tests": tests}


def primary_model(record: RunRecord) -> str:
    """Return the model that decides the verdict: the configured one, else the first that saw the LLM's graph."""
    chosen = record.config.get("bench", {}).get("primary")
    if chosen:
        return str(chosen)
    results = record.results.to_pandas()
    seen = results.loc[results["graph"] == KG_LLM, "model"].tolist()
    return str(seen[0]) if seen else str(results["model"].iloc[0])


def _check_metrics(record: RunRecord) -> None:
    columns = record.per_user.column_names
    missing = [m for m in METRICS if m not in columns]
    if missing:
        known = ", ".join(c for c in columns if "@" in c) or "no metric"
        msg = f"run `{record.name}` has no `{missing[0]}`, only {known}; add 20 to `ks` under [bench] and run it again"
        raise RunError(msg)


def _row(results: pd.DataFrame, key: tuple[str, str], users: pd.DataFrame) -> dict[str, Any]:
    model, graph = key
    runs = results[(results["model"] == model) & (results["graph"] == graph)].sort_values("seed")
    row: dict[str, Any] = {
        "model": model,
        "graph": graph,
        "n_seeds": int(runs["seed"].nunique()),
        "n_users": len(users),
        "epoch": float(runs["epoch"].mean()),
        "seconds": float(runs["seconds"].sum()),
    }
    for metric in METRICS:
        values = users[metric].to_numpy(np.float64)
        low, high = bootstrap_interval(values)
        row[metric] = {"mean": float(values.mean()), "low": low, "high": high, "by_seed": runs[metric].tolist()}
    return row


def _tests(users: dict[tuple[str, str], pd.DataFrame], metric: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for model in dict.fromkeys(model for model, _ in users):
        for against in CONTROLS:
            if (model, KG_LLM) in users and (model, against) in users:
                test = paired_test(*_paired(users[model, KG_LLM], users[model, against], metric))
                found.append(
                    {
                        "model": model,
                        "metric": metric,
                        "against": against,
                        "difference": test.difference,
                        "low": test.low,
                        "high": test.high,
                        "p_value": test.p_value,
                        "n_users": test.n,
                    }
                )
    adjusted = holm([t["p_value"] for t in found])
    return [{**test, "p_adjusted": p} for test, p in zip(found, adjusted, strict=True)]


def _paired(
    ours: pd.DataFrame, theirs: pd.DataFrame, metric: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    users = ours.index.intersection(theirs.index).sort_values()
    return ours.loc[users, metric].to_numpy(np.float64), theirs.loc[users, metric].to_numpy(np.float64)
