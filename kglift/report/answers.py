"""A few of the LLM's replies beside the facts that were made of them."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from kg.graph import Graph
from kg.terms import LLM
from kglift.labels import node_labels

_N_EXAMPLES = 3
_LONGEST_REPLY = 600
_N_FACTS = 8


def with_examples(extraction: Mapping[str, Any], fused: Graph) -> dict[str, Any]:
    """Add `examples` to an extraction's summary: replies at even distances in the order of units, not chosen by merit.

    Args:
        extraction: a summary, as the engine gives it.
        fused: the graph with the sources.

    Returns:
        The summary with `examples`: unit, name, reply (shortened) and facts (as words; the first eight).
    """
    sources = fused.sources.filter(
        pc.and_(pc.equal(fused.sources["kind"], LLM), pc.equal(fused.sources["prompt"], extraction["prompt"]))
    )
    rows = sorted(sources.select(["source", "unit", "reply"]).to_pylist(), key=lambda r: (r["unit"] or "", r["source"]))
    step = max(1, len(rows) // _N_EXAMPLES)
    chosen = rows[::step][:_N_EXAMPLES]
    _, names = node_labels(fused)
    facts = _facts_of(fused, [row["source"] for row in chosen], names)
    examples = [
        {
            "unit": row["unit"],
            "name": names.get(row["unit"], row["unit"]),
            "reply": (row["reply"] or "")[:_LONGEST_REPLY],
            "facts": facts.get(row["source"], [])[:_N_FACTS],
        }
        for row in chosen
    ]
    return {**extraction, "examples": examples}


def _facts_of(fused: Graph, sources: list[str], names: Mapping[str, str]) -> dict[str, list[str]]:
    told: dict[str, list[str]] = {source: [] for source in sources}
    chosen = pc.field("source").isin(pa.array(sources, pa.string()))
    for row in fused.triples.filter(chosen).to_pylist():
        told[row["source"]].append(f"{names[row['head']]} --{row['relation']}--> {names[row['tail']]}")
    hyperedges = fused.hyperedges.filter(chosen).to_pylist()
    sizes = _sizes(fused) if hyperedges else {}
    for row in hyperedges:
        n = sizes.get(row["hyperedge_id"], 0)
        told[row["source"]].append(f"{row['relation']} “{names[row['hyperedge_id']]}” with {n} members")
    return told


def _sizes(fused: Graph) -> dict[str, int]:
    counts: pd.Series = fused.members.to_pandas()["hyperedge_id"].value_counts()
    return {str(k): int(v) for k, v in counts.items()}
