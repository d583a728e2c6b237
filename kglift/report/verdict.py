"""Did the LLM's graph help, and how sure are we: one rule, written down."""

from collections.abc import Mapping, Sequence
from typing import Any

from kglift.report.record import GRAPH_NAMES, KG, KG_LLM, KG_RANDOM, NONE
from kglift.report.words import format_difference

METRIC = "ndcg@20"
LEVEL = 0.05
MIN_SEEDS = 5
MIN_USERS = 30
_COMPARED = (KG_LLM, KG, KG_RANDOM, NONE)

RULE = (
    f"“Helped” is said only if, with the primary model and {METRIC}, the KG with the LLM's graph beats both the KG "
    "alone and the KG with a random graph of equal size, and is not worse than no graph at all: differences above 0 "
    f"with a Holm-adjusted p below {LEVEL} in a paired test over users, on at least {MIN_SEEDS} seeds and {MIN_USERS} "
    "users and with a clean leak check. “Hurt” is said if it is significantly worse than the KG alone. Otherwise no "
    "effect was shown. Seeds are averaged first, so intervals and p speak of other users, not of other trainings."
)


def judge(comparison: Mapping[str, Any], model: str, checks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Apply the rule to a comparison.

    Args:
        comparison: what `compare` returned.
        model: the primary model.
        checks: findings of the leak check.

    Returns:
        `outcome` (helped, no_effect, hurt, not_enough_evidence), `sentence`, `reason`, `rule`, `model`, `metric`,
        `n_seeds`, `n_users`, and `tests`: the primary model's tests on the metric by control.
    """
    rows = {r["graph"]: r for r in comparison["rows"] if r["model"] == model}
    tests = {t["against"]: t for t in comparison["tests"] if t["model"] == model and t["metric"] == METRIC}
    graphs = [rows[g] for g in _COMPARED if g in rows]
    n_seeds = min((r["n_seeds"] for r in graphs), default=0)
    n_users = min((r["n_users"] for r in graphs), default=0)
    lacking = _lacking(rows, n_seeds, n_users, checks)
    outcome, reason = ("not_enough_evidence", lacking) if lacking else _outcome(tests)
    return {
        "outcome": outcome,
        "sentence": _sentence(outcome, model, rows, tests),
        "reason": reason,
        "rule": RULE,
        "model": model,
        "metric": METRIC,
        "n_seeds": n_seeds,
        "n_users": n_users,
        "tests": tests,
    }


def _lacking(rows: Mapping[str, Any], n_seeds: int, n_users: int, checks: Sequence[Mapping[str, Any]]) -> str:
    missing = [GRAPH_NAMES[g] for g in _COMPARED if g not in rows]
    leaks = [c["text"] for c in checks if c["severity"] == "error"]
    if leaks:
        return f"The leak check failed, so no figure here can be trusted: {leaks[0]}"
    if missing:
        return f"The primary model was not evaluated on: {', '.join(missing)}."
    if n_seeds < MIN_SEEDS:
        return f"There are {n_seeds} seeds; at least {MIN_SEEDS} are asked for."
    if n_users < MIN_USERS:
        return f"There are {n_users} test users; at least {MIN_USERS} are needed."
    return ""


def _outcome(tests: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    over_kg, over_random, over_none = tests[KG], tests[KG_RANDOM], tests[NONE]
    if _beats(over_kg) and _beats(over_random) and _is_sure(over_none) and over_none["difference"] < 0:
        return "no_effect", (
            "It beats the KG alone and a random graph of equal size, but with the graphs the model is worse than "
            f"with none ({format_difference(over_none)})."
        )
    if _beats(over_kg) and _beats(over_random):
        return "helped", f"It beats a random graph of equal size too, by {format_difference(over_random)}."
    if _is_sure(over_kg) and over_kg["difference"] < 0:
        return "hurt", "It is significantly worse than the data set's KG alone."
    if _beats(over_kg):
        return "no_effect", (
            "It beats the KG alone, but not a random graph of equal size "
            f"({format_difference(over_random)}): more edges may be all that it adds."
        )
    return "no_effect", (
        "The difference from the KG alone is within what chance gives; "
        f"against a random graph of equal size it is {format_difference(over_random)}."
    )


def _is_sure(test: Mapping[str, Any]) -> bool:
    return bool(test["p_adjusted"] < LEVEL)


def _beats(test: Mapping[str, Any]) -> bool:
    return _is_sure(test) and test["difference"] > 0


_OPENINGS = {
    "helped": "The LLM's graph helped {model}",
    "hurt": "The LLM's graph hurt {model}",
    "no_effect": "No effect of the LLM's graph on {model} was shown",
    "not_enough_evidence": "There is not enough evidence to say whether the LLM's graph helped {model}",
}


def _sentence(outcome: str, model: str, rows: Mapping[str, Any], tests: Mapping[str, Any]) -> str:
    opening = _OPENINGS[outcome].format(model=model)
    if KG not in tests:
        return f"{opening}."
    with_llm, without = rows[KG_LLM][METRIC]["mean"], rows[KG][METRIC]["mean"]
    sentence = (
        f"{opening}: {METRIC} is {with_llm:.4f} with it and {without:.4f} with the data set's KG alone, a difference "
        f"of {format_difference(tests[KG])} over {tests[KG]['n_users']:,} users and {rows[KG_LLM]['n_seeds']} seeds."
    )
    if NONE in tests:
        sentence += f" Without any graph it is {rows[NONE][METRIC]['mean']:.4f}."
    return sentence
