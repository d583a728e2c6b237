"""How the report says numbers and outcomes, in HTML and in the terminal alike."""

from collections.abc import Mapping
from typing import Any

OUTCOMES = {
    "helped": "✔ It helped",
    "hurt": "✘ It hurt",
    "no_effect": "○ No effect shown",
    "not_enough_evidence": "? Not enough evidence",
}


def format_p(p: float) -> str:
    """Return a p value with its sign, e.g. `= 0.031` or `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def format_difference(test: Mapping[str, Any]) -> str:
    """Return a difference with its interval and adjusted p value."""
    return (
        f"{test['difference']:+.4f} (95 % interval {test['low']:+.4f} to {test['high']:+.4f}, "
        f"adjusted p {format_p(test['p_adjusted'])})"
    )


def format_seconds(seconds: float) -> str:
    """Return a duration as a person says it, e.g. `45 s` or `2 min 5 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
