"""From the outcomes of runs to one result, and from a result to a table."""

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch

from gnn.errors import InputError
from gnn.experiments.plan import Experiment, Published
from gnn.experiments.runs import Data, Outcome
from gnn.significance import holm, paired_test
from kg.files import code_version
from kg.machine import cpu_model

Row = dict[str, Any]
_LIBRARIES = ("torch", "numpy", "scipy", "numba", "triton", "pyarrow")
_DIGITS = 6


def make_result(experiment: Experiment, data: Data, outcomes: Sequence[Outcome]) -> Row:
    """Describe an experiment as one plain value: what was run, where, and what came out.

    Args:
        experiment: what was to be run.
        data: its data set.
        outcomes: of all its runs.
    """
    keeps = experiment.protocol.keeps_curve
    finished = [o for o in outcomes if o.state == "finished"]
    runs = [_run_row(o, keeps) for o in finished]
    summary = summarise(runs, experiment.protocol.metrics)
    return {
        "experiment": experiment.name,
        "metrics": list(experiment.protocol.metrics),
        "config": experiment.values,
        "where": _where(),
        "data": {"sha256": data.sha256, **_sizes(data)},
        "runs": runs,
        "summary": summary,
        "tests": compare_graphs(finished, experiment.protocol.metrics),
        "published": compare_published(summary, runs, experiment.published),
        "refused": [_about(o) | o.values for o in outcomes if o.state == "refused"],
        "unfinished": [_about(o) | _curve(o) for o in outcomes if o.state == "unfinished"],
    }


def summarise(runs: Iterable[Mapping[str, Any]], metrics: Sequence[str]) -> list[Row]:
    """Sum up runs: a row for each model and graph.

    Args:
        runs: the `runs` of a result.
        metrics: which are summed up, as `NAME@K`.

    Returns:
        n_seeds, mean and standard deviation (n - 1; null for one seed) of each metric, mean seconds of training.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["model"], run["graph"]), []).append(run)
    rows = []
    for (model, graph), members in groups.items():
        values = {name: _mean_sd([run["metrics"][name] for run in members]) for name in metrics}
        seconds = round(float(np.mean([run["seconds"] for run in members])), 2)
        rows.append({"model": model, "graph": graph, "n_seeds": len(members), **values, "seconds": seconds})
    return rows


def compare_graphs(finished: Sequence[Outcome], metrics: Sequence[str]) -> list[Row]:
    """Compare the graphs of each model pairwise over users, each user's value averaged over seeds.

    Args:
        finished: outcomes with a table of users.
        metrics: which are compared, as `NAME@K`.

    Returns:
        Difference of means with its 95 % bootstrap interval, the p-value of a paired t-test, and `p_holm`, the same
        adjusted over all comparisons of the experiment.
    """
    groups: dict[str, dict[str, list[Outcome]]] = {}
    for outcome in finished:
        groups.setdefault(outcome.run.model, {}).setdefault(outcome.run.graph, []).append(outcome)
    rows: list[Row] = []
    for model, graphs in groups.items():
        for metric in metrics:
            means = {graph: np.mean([_values(o, metric) for o in members], axis=0) for graph, members in graphs.items()}
            for one, other in combinations(sorted(means), 2):
                test = paired_test(means[one], means[other])
                ends = {"difference": test.difference, "low": test.low, "high": test.high}
                about = {"model": model, "metric": metric, "a": one, "b": other}
                rows.append({**about, **_rounded(ends), "p_value": test.p_value, "n_users": test.n})
    adjusted = holm([row["p_value"] for row in rows])
    return [{**row, "p_holm": p} for row, p in zip(rows, adjusted, strict=True)]


def compare_published(
    summary: Iterable[Row], runs: Sequence[Mapping[str, Any]], published: Iterable[Published]
) -> list[Row]:
    """Put ours, the mean over seeds, beside what others published.

    Args:
        summary: what `summarise` returns; a model that is not in it has no row.
        runs: the `runs` of a result.
        published: the numbers of others.

    Returns:
        Both numbers; `is_within` says whether ours is as near as the experiment claims, null where it claims nothing.
    """
    rows: list[Row] = []
    known = {(row["model"], row["graph"]) for row in summary}
    for other in published:
        if (other.model, other.graph) not in known:
            continue
        own = [run for run in runs if (run["model"], run["graph"]) == (other.model, other.graph)]
        for metric, value in other.metrics.items():
            mean = float(np.mean([run["metrics"][metric] for run in own]))
            allowed = max(other.absolute, other.relative * value)
            about = {"model": other.model, "graph": other.graph, "metric": metric, "source": other.source}
            numbers = _rounded({"published": value, "ours": mean, "difference": mean - value, "allowed": allowed})
            rows.append({**about, **numbers, "is_within": abs(mean - value) <= allowed if allowed else None})
    return rows


def table(result: Mapping[str, Any]) -> str:
    """Return a result as text: a row for each model and graph, the published numbers, the tests, what is missing."""
    metrics = result["metrics"]
    lines = [result["config"]["about"], ""]
    lines.append(f"{'model':<12}{'graph':<8}{'seeds':>5}" + "".join(f"{m:>17}" for m in metrics) + f"{'seconds':>10}")
    for row in result["summary"]:
        cells = "".join(f"{_cell(row[m]):>17}" for m in metrics)
        lines.append(f"{row['model']:<12}{row['graph']:<8}{row['n_seeds']:>5}{cells}{row['seconds']:>10.1f}")
    for row in result["published"]:
        allowed = f"within {row['allowed']:.4f}"
        verdict = {True: allowed, False: f"NOT {allowed}", None: "nothing claimed"}[row["is_within"]]
        lines.append(
            f"{row['model']} on {row['graph']}, {row['metric']}: ours {row['ours']:.4f}, published "
            f"{row['published']:.4f}, {row['difference']:+.4f}, {verdict} ({row['source']})"
        )
    for row in result["tests"]:
        lines.append(
            f"{row['model']}, {row['metric']}, {row['a']} - {row['b']}: {row['difference']:+.4f} "
            f"[{row['low']:+.4f}, {row['high']:+.4f}], p = {row['p_holm']:.2g} (Holm), {row['n_users']} users"
        )
    lines += _missing(result)
    return "\n".join(lines)


def read_result(path: Path) -> Row:
    """Read a result file.

    Raises:
        InputError: if it is absent or no result.
    """
    try:
        result: Row = json.loads(path.read_text(encoding="utf-8"))
        known = result.keys() >= {"experiment", "summary", "published"}
    except (OSError, ValueError, AttributeError) as error:
        msg = (
            f"`{path}` cannot be read as a result ({type(error).__name__}); give what `python -m gnn experiment` wrote"
        )
        raise InputError(msg) from error
    if not known:
        msg = f"`{path}` is JSON but no result; give what `python -m gnn experiment` wrote"
        raise InputError(msg)
    return result


def markdown(results: Iterable[Mapping[str, Any]]) -> str:
    """Return results as one Markdown table for the README: a row for each model and graph, below what is missing.

    A row on `kg` also says by how much ndcg@20 differs from the same model's on the other graphs, with Holm's p.
    """
    head = "| experiment | model | graph | seeds | recall@20 | ndcg@20 | published | kg minus the others | seconds |"
    rows, missing = [head, "|---|---|---|---:|---:|---:|---|---|---:|"], []
    for result in results:
        for row in result["summary"]:
            cells = [result["experiment"], row["model"], row["graph"], str(row["n_seeds"])]
            cells += [_cell(row[m]) if m in row else "" for m in ("recall@20", "ndcg@20")]
            cells += [_beside(result, row), _lift(result, row), f"{row['seconds']:.1f}"]
            rows.append("| " + " | ".join(cells) + " |")
        missing += [f"- {result['experiment']}: {line}" for line in _missing(result)]
    return "\n".join(rows) + ("\n\n" + "\n".join(missing) if missing else "")


def _beside(result: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    own = [p for p in result["published"] if (p["model"], p["graph"]) == (row["model"], row["graph"])]
    values = " / ".join(f"{p['published']:.4f}" for p in own)
    missed = [p["metric"] for p in own if p["is_within"] is False]
    return values + (f" (missed: {', '.join(missed)})" if missed else "")


def _lift(result: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    own = [t for t in result["tests"] if (t["model"], t["metric"], t["a"]) == (row["model"], "ndcg@20", row["graph"])]
    if row["graph"] != "kg":
        return ""
    return ", ".join(f"{t['b']} {t['difference']:+.4f} (p {t['p_holm']:.2g})" for t in own)


def _missing(result: Mapping[str, Any]) -> list[str]:
    lines = [f"{row['model']} not run here, {row['reason']}" for row in result["refused"]]
    begun = [row for row in result["unfinished"] if row["epoch"]]
    lines += [f"{r['model']} on {r['graph']}, seed {r['seed']}, unfinished{_so_far(r)}" for r in begun]
    n_waiting = len(result["unfinished"]) - len(begun)
    return lines + ([f"runs not begun: {n_waiting}"] if n_waiting else [])


def _about(outcome: Outcome) -> Row:
    return {"model": outcome.run.model, "graph": outcome.run.graph, "seed": outcome.run.seed}


def _run_row(outcome: Outcome, keeps_curve: bool) -> Row:
    values = outcome.values
    numbers = {key: round(values[key], 3) for key in ("seconds", "evaluation_seconds")}
    row = {**_about(outcome), "metrics": _rounded(values["metrics"]), **numbers, "best_epoch": values["best_epoch"]}
    row |= {"n_epochs": len(outcome.curve), "n_users": values["n_users"], "commit": values["commit"]}
    return row | (_curve(outcome) if keeps_curve else {})


def _curve(outcome: Outcome) -> Row:
    """Return the epochs that were evaluated, with the seconds since the start, evaluations included."""
    table = outcome.curve
    elapsed = pc.cumulative_sum(table["seconds"])
    table = table.set_column(table.column_names.index("seconds"), "seconds", elapsed)
    last = int(table["epoch"][-1].as_py()) if len(table) else 0
    points = table.filter(pc.is_valid(table["recall@20"])).to_pylist()
    return {"epoch": last, "curve": [_rounded(point) for point in points]}


def _so_far(row: Mapping[str, Any]) -> str:
    if not row["curve"]:
        return f", epoch {row['epoch']}"
    best = max(row["curve"], key=lambda point: point["recall@20"])
    return (
        f", epoch {row['epoch']}; best recall@20 {best['recall@20']:.4f}, ndcg@20 {best['ndcg@20']:.4f} "
        f"at epoch {best['epoch']:.0f} on the split that stops it"
    )


def _values(outcome: Outcome, metric: str) -> Any:
    return outcome.per_user[metric].to_numpy()


def _mean_sd(values: Sequence[float]) -> Row:
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return _rounded({"mean": float(np.mean(values)), "sd": sd})


def _cell(value: Mapping[str, Any]) -> str:
    return f"{value['mean']:.4f}" + ("" if value["sd"] is None else f" +-{value['sd']:.4f}")


def _rounded(values: Mapping[str, Any]) -> Row:
    return {key: round(value, _DIGITS) if isinstance(value, float) else value for key, value in values.items()}


def _sizes(data: Data) -> Row:
    ckg = data.ckg
    splits = {name: len(pairs) for name, pairs in ckg.interactions.items()}
    sizes = {"n_users": ckg.n_users, "n_items": ckg.n_items, "n_nodes": ckg.n_nodes, "n_triples": len(ckg.triples)}
    return {**sizes, "n_relations": ckg.n_relations, "interactions": splits}


def _where() -> Row:
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    device = {"device": gpu or cpu_model(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    return {**device, "versions": versions, "code": code_version()}
