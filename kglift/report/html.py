"""The report as one HTML file that needs no network."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kglift.report.comparison import CONTROLS
from kglift.report.figures import draw_comparison, draw_curves, draw_degrees, draw_neighbourhood
from kglift.report.record import GRAPH_NAMES
from kglift.report.svg import to_svg
from kglift.report.words import OUTCOMES, format_p, format_seconds
from kglift.sentences import relation_words


def render_html(report: Mapping[str, Any]) -> str:
    """Render a report as a self-contained page: style and figures inline, every text escaped.

    Args:
        report: what `build_report` returned, or `report.json` read back.
    """
    environment = Environment(
        loader=PackageLoader("kglift.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(day=_day, p=format_p, words=relation_words, seconds=format_seconds)
    names = {"graph_names": GRAPH_NAMES, "outcomes": OUTCOMES, "controls": CONTROLS}
    page = environment.get_template("template.html.jinja")
    config = json.dumps(report["reproduce"]["config"], indent=2, ensure_ascii=False, default=str)
    return page.render(report=report, figures=_figures(report), config=config, **names)


def _figures(report: Mapping[str, Any]) -> dict[str, list[Markup]]:
    comparison, curves, degrees = report["comparison"], report["curves"], report["graph"]["degrees"]
    models = dict.fromkeys(c["model"] for c in curves)
    parts = dict.fromkeys(d["nodes"] for d in degrees)
    return {
        "comparison": [
            to_svg(draw_comparison(comparison, m), f"comparison{i}", _tell_comparison(comparison, m))
            for i, m in enumerate(comparison["metrics"])
        ],
        "degrees": [
            to_svg(draw_degrees(degrees, part), f"degrees{i}", _tell_degrees(degrees, part))
            for i, part in enumerate(parts)
        ],
        "curves": [
            to_svg(draw_curves(curves, model, what), f"curve{i}{j}", _tell_curves(curves, model, what))
            for i, model in enumerate(models)
            for j, what in enumerate(("ndcg@20", "loss"))
        ],
        "neighbourhood": [
            to_svg(
                draw_neighbourhood(report["graph"]["neighbourhood"]),
                "neighbourhood",
                _tell_neighbourhood(report["graph"]["neighbourhood"]),
            )
        ],
    }


def _tell_comparison(comparison: Mapping[str, Any], metric: str) -> str:
    points = [f"{r['model']} on {GRAPH_NAMES[r['graph']]} {r[metric]['mean']:.4f}" for r in comparison["rows"]]
    return f"{metric} by model and graph: {'; '.join(points)}."


def _tell_degrees(degrees: Any, part: str) -> str:
    most = {d["graph"]: d["degree"][-1] for d in degrees if d["nodes"] == part}
    told = ", ".join(f"{GRAPH_NAMES[g]} up to {n:,} edges" for g, n in most.items())
    return f"Degree distribution of {part} on logarithmic axes: {told}."


def _tell_curves(curves: Any, model: str, what: str) -> str:
    last = {c["graph"]: (c[what] if what == "loss" else c[what]["mean"])[-1] for c in curves if c["model"] == model}
    ends = ", ".join(f"{GRAPH_NAMES[g]} {v:.4f}" for g, v in last.items() if v is not None)
    return f"{what} of {model} by epoch; at the last one: {ends}."


def _tell_neighbourhood(around: Mapping[str, Any]) -> str:
    kinds = {column: sum(n["column"] == column for n in around["nodes"]) for column in ("item", "other")}
    return (
        f"A part of the graph around {around['user']}: {kinds['item']} of {around['n_items']} items, "
        f"{kinds['other']} of {around['n_others']} other nodes, {len(around['edges'])} edges; listed below the picture."
    )


def _day(timestamp: int | None) -> str:
    return "unknown" if timestamp is None else datetime.fromtimestamp(timestamp, UTC).date().isoformat()
