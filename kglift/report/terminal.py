"""The report's verdict and comparison in a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from kglift.report.record import GRAPH_NAMES
from kglift.report.words import OUTCOMES, format_p, format_seconds

_STYLES = {"helped": "green", "hurt": "red", "no_effect": "yellow", "not_enough_evidence": "yellow"}


def render_terminal(report: Mapping[str, Any], console: Console) -> None:
    """Print the sentence, the comparison, the deciding metric's tests, and one line each on data, graph and LLM.

    Args:
        report: what `build_report` returned, or `report.json` read back.
        console: where to print.
    """
    verdict = report["verdict"]
    told = Text.assemble((verdict["sentence"], "bold"), "\n", verdict["reason"])
    style = _STYLES[verdict["outcome"]]
    console.print(Panel(told, title=OUTCOMES[verdict["outcome"]], title_align="left", border_style=style))
    console.print(_comparison(report["comparison"]))
    if report["comparison"]["tests"]:
        console.print(_tests(report["comparison"], verdict["metric"]))
    for line in _lines(report):
        console.print(Text(line))


def _comparison(comparison: Mapping[str, Any]) -> Table:
    table = _table("mean over users and seeds, 95 % interval over users", "model", "graph")
    for column in (*comparison["metrics"], "seeds"):
        table.add_column(column, justify="right")
    for row in comparison["rows"]:
        values = [f"{v['mean']:.4f} {v['low']:.3f}-{v['high']:.3f}" for v in (row[m] for m in comparison["metrics"])]
        cells = [row["model"], GRAPH_NAMES[row["graph"]], *values, str(row["n_seeds"])]
        table.add_row(*(Text(c) for c in cells))
    return table


def _tests(comparison: Mapping[str, Any], metric: str) -> Table:
    table = _table(f"{metric}: KG + LLM graph against …, paired over users", "model", "against")
    for column in ("difference", "95 % interval", "adjusted p"):
        table.add_column(column, justify="right")
    for test in (t for t in comparison["tests"] if t["metric"] == metric):
        interval = f"{test['low']:+.4f} to {test['high']:+.4f}"
        figures = [f"{test['difference']:+.4f}", interval, format_p(test["p_adjusted"])]
        table.add_row(*(Text(c) for c in (test["model"], GRAPH_NAMES[test["against"]], *figures)))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=f"\n{title}", box=None, padding=(0, 2, 0, 0), pad_edge=False, title_justify="left")
    for column in columns:
        table.add_column(column)
    return table


def _lines(report: Mapping[str, Any]) -> list[str]:
    data, totals = report["data"], report["graph"]["totals"]
    lines = [
        f"data: {data['n_users']:,} users, {data['n_items']:,} items, {data['n_interactions']:,} interactions; "
        f"leak check {'clean' if report['checks']['is_clean'] else 'FAILED'}",
        f"graph: {totals['kg']['facts']:,} facts, with the LLM {totals['kg+llm']['facts']:,}",
    ]
    for e in report["extractions"]:
        lines.append(
            f"{e['method']}: {e['model']} answered {e['done'] + e['empty'] + e['rejected']:,} of {e['total']:,} units, "
            f"{sum(r['count'] for r in e['rejects'].values()):,} parts rejected, {e['paid_tokens']:,} tokens, "
            f"cost {e['paid_cost']:.2f}, {format_seconds(e['seconds'])}{_ungrounded(e)}"
        )
    return lines


def _ungrounded(extraction: Mapping[str, Any]) -> str:
    share = extraction.get("ungrounded_share")
    return "" if share is None else f"; {share:.0%} of the names of items that it gave are not in the catalogue"
