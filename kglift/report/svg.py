"""Matplotlib figures as SVG that lives inside a page: no foreign address, colours from the page, a text for readers."""

import io
import re
import warnings
from typing import Final

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from kglift.report.figures import COLOURS, FAINT, INK, PAPER
from kglift.report.record import KG, KG_LLM, KG_RANDOM, NONE

_VARIABLES: Final = {
    INK: "var(--ink)",
    FAINT: "var(--faint)",
    PAPER: "var(--paper)",
    COLOURS[NONE]: "var(--none)",
    COLOURS[KG]: "var(--kg)",
    COLOURS[KG_LLM]: "var(--llm)",
    COLOURS[KG_RANDOM]: "var(--random)",
}
_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def to_svg(figure: Figure, name: str, description: str) -> Markup:
    """Turn a figure into an inline `<svg>`.

    Args:
        figure: one of `kglift.report.figures`.
        name: unique within the page; prefixes every id.
        description: what the figure shows, for those who do not see it.

    Returns:
        Markup without prolog or namespace; its colours are CSS variables of the page, its text is text.
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the reader's fonts draw the text, not Matplotlib's
        figure.savefig(buffer, format="svg", metadata=_METADATA)
    text = buffer.getvalue()
    body = text[text.index(">", text.index("<svg")) + 1 :]
    width, height = (float(v) for v in re.findall(r'(?:width|height)="([\d.]+)pt"', text)[:2])
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"\s*<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", body)
    body = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, variable)
    label = escape(description)
    opening = f'<svg role="img" aria-label="{label}" width="{width:g}" viewBox="0 0 {width:g} {height:g}">'
    return Markup(opening + f"<title>{label}</title>" + body)
