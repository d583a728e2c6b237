"""What a finished run hands to the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from kg.graph import Graph

NONE: Final = "none"
KG: Final = "kg"
KG_LLM: Final = "kg+llm"
KG_RANDOM: Final = "kg+random"

GRAPH_NAMES: Final[dict[str, str]] = {
    NONE: "no graph",
    KG: "KG",
    KG_LLM: "KG + LLM graph",
    KG_RANDOM: "KG + random graph",
}
"""The graphs a model is trained on, as a reader calls them; the random one has the size of the LLM's."""


@dataclass(frozen=True)
class RunRecord:
    """Everything that the report shows, before any figure is computed from it.

    Attributes:
        name: of the run.
        config: the resolved configuration; `config["bench"]["primary"]` names the model that decides the verdict.
        base: the split data set with its own facts.
        fused: `base` with the facts of the LLM.
        extractions: one summary for each extraction method, as the engine gives it.
        fusion: what fusion merged, and what conflicted.
        checks: findings of the leak check: severity, code, count, text.
        results: columns model, graph, seed, `recall@20`, `ndcg@20`, ..., epoch, seconds; one row a training.
        per_user: columns model, graph, seed, user_id, `recall@20`, `ndcg@20`, ...
        curves: columns model, graph, seed, epoch, loss, `recall@20`, `ndcg@20`, seconds; metrics are of `valid`.
        explanations: some recommendations of the primary model, as `Explanation.to_dict` gives them.
        about: versions, commit, device: what is needed to repeat the run.
    """

    name: str
    config: Mapping[str, Any]
    base: Graph
    fused: Graph
    extractions: Sequence[Mapping[str, Any]]
    fusion: Mapping[str, Any]
    checks: Sequence[Mapping[str, Any]]
    results: pa.Table
    per_user: pa.Table
    curves: pa.Table
    explanations: Sequence[Mapping[str, Any]]
    about: Mapping[str, Any] = field(default_factory=dict)
