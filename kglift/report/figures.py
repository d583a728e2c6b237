"""The report's pictures as Matplotlib figures: light colours, a shape or a dash beside every colour."""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Final, ParamSpec

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from kglift.labels import HYPEREDGE
from kglift.report.record import GRAPH_NAMES, KG, KG_LLM, KG_RANDOM, NONE

P = ParamSpec("P")

INK: Final = "#1b2430"
FAINT: Final = "#d5dae1"
PAPER: Final = "#ffffff"
COLOURS: Final = {NONE: "#5b6573", KG: "#1f6fb5", KG_LLM: "#c24a0a", KG_RANDOM: "#2c7a51"}
_MARKERS = {NONE: "o", KG: "s", KG_LLM: "D", KG_RANDOM: "^"}
_DASHES: dict[str, Any] = {NONE: (0, (1, 1.5)), KG: "solid", KG_LLM: (0, (6, 2)), KG_RANDOM: (0, (6, 2, 1, 2))}
_EDGE_LOOK: dict[str, tuple[str, Any, str]] = {
    "interaction": (COLOURS[NONE], "solid", "train interaction"),
    "dataset": (COLOURS[KG], "solid", "fact of the data set"),
    "rule": (COLOURS[KG_RANDOM], "dotted", "fact of a rule"),
    "llm": (COLOURS[KG_LLM], (0, (5, 2)), "fact of the LLM"),
}
_NODE_LOOK = {"user": ("s", "user"), "item": ("o", "item"), "other": ("^", "other entity"), "hyper": ("D", "hyperedge")}
_PANEL = (440, 300)
_SMALL_PANEL = (335, 280)
_LONGEST_LABEL = 30


_LOOK: Any = {
    "font.size": 12,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
}


def _styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(_LOOK):
            return draw(*args, **kwargs)

    return styled


@_styled
def draw_comparison(comparison: Mapping[str, Any], metric: str) -> Figure:
    """Draw one metric of each model and graph as a point with its interval.

    Args:
        comparison: the report's `comparison`.
        metric: one of its metrics.
    """
    rows = comparison["rows"]
    models = list(dict.fromkeys(r["model"] for r in rows))
    figure, axes = _figure(_PANEL[0], 110 + 24 * len(rows) + 14 * len(models))
    place, ticks = 0.0, []
    for model in models:
        of_model = [r for r in rows if r["model"] == model]
        for row in of_model:
            _draw_interval(axes, row[metric], row["graph"], place)
            place += 1
        ticks.append(place - (len(of_model) + 1) / 2)
        place += 0.6
    axes.set_yticks(ticks, models)
    axes.set_ylim(place - 0.9, -0.7)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(f"{metric}, mean and 95 % interval over users")
    graphs = [g for g in GRAPH_NAMES if any(r["graph"] == g for r in rows)]
    _legend(figure, [Line2D([], [], color=COLOURS[g], marker=_MARKERS[g], label=GRAPH_NAMES[g]) for g in graphs])
    return figure


@_styled
def draw_degrees(degrees: Sequence[Mapping[str, Any]], nodes: str) -> Figure:
    """Draw the share of nodes that have at least so many edges, on two logarithmic axes, without and with the LLM.

    Args:
        degrees: the report's `graph.degrees`.
        nodes: which part: `users`, `items` or `other nodes`.
    """
    figure, axes = _figure(*_SMALL_PANEL)
    for row in (r for r in degrees if r["nodes"] == nodes):
        graph = row["graph"]
        look = {"color": COLOURS[graph], "linestyle": _DASHES[graph], "linewidth": 2.5 if graph == KG else 1.8}
        axes.step(row["degree"], row["share"], where="pre", label=GRAPH_NAMES[graph], **look)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=_steps(axis.get_view_interval())))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("edges")
    axes.set_ylabel("share with as many or more")
    axes.set_title(nodes)
    _legend(figure, axes.get_legend_handles_labels()[0])
    return figure


@_styled
def draw_curves(curves: Sequence[Mapping[str, Any]], model: str, what: str) -> Figure:
    """Draw a model's learning curve on each graph: the mean over seeds, and their range as a band.

    Args:
        curves: the report's `curves`.
        model: which model.
        what: `loss` or a metric.
    """
    figure, axes = _figure(*_PANEL)
    for curve in (c for c in curves if c["model"] == model):
        graph = curve["graph"]
        values = curve[what] if what == "loss" else curve[what]["mean"]
        known = [(e, v) for e, v in zip(curve["epoch"], values, strict=True) if v is not None]
        look = {"color": COLOURS[graph], "linestyle": _DASHES[graph], "marker": _MARKERS[graph], "markersize": 4}
        axes.plot([e for e, _ in known], [v for _, v in known], label=GRAPH_NAMES[graph], linewidth=1.6, **look)
        if what != "loss" and curve["n_seeds"] > 1:
            band = [(e, a, b) for e, a, b in zip(curve["epoch"], curve[what]["low"], curve[what]["high"], strict=True)]
            epochs, low, high = zip(*[b for b in band if b[1] is not None], strict=True) if known else ((), (), ())
            axes.fill_between(epochs, low, high, color=COLOURS[graph], alpha=0.12, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("epoch")
    axes.set_title(f"{model}: {'loss' if what == 'loss' else what + ' on valid'}")
    _legend(figure, axes.get_legend_handles_labels()[0])
    return figure


@_styled
def draw_neighbourhood(around: Mapping[str, Any]) -> Figure:
    """Draw the surroundings of one user in three columns; a hyperedge is a small node with spokes, never a clique.

    Args:
        around: the report's `graph.neighbourhood`.
    """
    columns = {c: [n for n in around["nodes"] if n["column"] == c] for c in ("user", "item", "other")}
    tallest = max(len(nodes) for nodes in columns.values())
    figure, axes = _figure(760, 110 + 34 * tallest)
    where = {}
    for (_, nodes), x in zip(columns.items(), (0.0, 0.27, 0.72), strict=True):
        for place, node in enumerate(nodes):
            where[node["id"]] = (x, (place + 0.5) * tallest / len(nodes))
    for edge in around["edges"]:
        colour, dashes, _ = _EDGE_LOOK[edge["kind"]]
        (x0, y0), (x1, y1) = where[edge["head"]], where[edge["tail"]]
        axes.plot([x0, x1], [y0, y1], color=colour, linestyle=dashes, linewidth=1.2, alpha=0.75, zorder=1)
    for node in around["nodes"]:
        _draw_node(axes, node, where[node["id"]])
    axes.set_xlim(-0.03, 1.02)
    axes.set_ylim(tallest, 0)
    axes.axis("off")
    kinds = [k for k in _EDGE_LOOK if any(e["kind"] == k for e in around["edges"])]
    lines = [Line2D([], [], color=c, linestyle=d, label=name) for c, d, name in (_EDGE_LOOK[k] for k in kinds)]
    shapes = dict.fromkeys(_shape(n) for n in around["nodes"])
    dots = [Line2D([], [], color=INK, marker=m, linestyle="", label=name) for m, name in shapes]
    _legend(figure, [*lines, *dots], columns=4)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    return figure, figure.add_subplot()


def _steps(ends: Sequence[float]) -> tuple[float, ...]:
    """Return which multiples of the powers of ten get a tick: more of them where the axis is short."""
    low, high = ends
    return (1.0,) if high / low > 1000 else (1.0, 2.0, 5.0)


def _legend(figure: Figure, handles: Sequence[Any], columns: int = 2) -> None:
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, fontsize=11, handlelength=2.6)


def _draw_interval(axes: Axes, value: Mapping[str, float], graph: str, y: float) -> None:
    axes.plot([value["low"], value["high"]], [y, y], color=COLOURS[graph], linewidth=2, linestyle="solid")
    axes.plot([value["mean"]], [y], _MARKERS[graph], color=COLOURS[graph], markersize=7)


def _shape(node: Mapping[str, Any]) -> tuple[str, str]:
    return _NODE_LOOK["hyper" if node["type"] == HYPEREDGE else node["column"]]


def _draw_node(axes: Axes, node: Mapping[str, Any], place: tuple[float, float]) -> None:
    marker, _ = _shape(node)
    small = node["type"] == HYPEREDGE
    axes.plot(*place, marker, color=INK, markersize=6 if small else 9, zorder=3)
    name = " ".join(f"user {node['name']}".split() if node["column"] == "user" else node["name"].split())
    label = name if len(name) <= _LONGEST_LABEL else name[: _LONGEST_LABEL - 1].rstrip() + "…"
    if node["column"] == "other" and not small:
        label += f" ({node['hint']})"
    back = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.85, "pad": 1.0}
    axes.annotate(
        label,
        place,
        xytext=(9, 0),
        textcoords="offset points",
        va="center",
        fontsize=11,
        bbox=back,
        zorder=2,
    )
