"""Small samples of real data, one for each method; answers to their questions are recorded in `goldens/replies`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from extract.method import Method
from kg.config import build_config
from kg.graph import Graph
from kg.source import Source
from kg.split import SplitConfig, split
from tests.shared_data import shared

REPLIES = Path(__file__).parents[1] / "goldens" / "replies"
_REVIEWS = {"user": "reviewerID", "item": "asin"}
_FILMS = ("recbole", "ml-100k-recbole", SplitConfig(method="ratio", order="time", valid=0.1, test=0.1))
_GOODS = ("table", "amazon-musical-instruments", SplitConfig(method="leave_last_out"))
SAMPLES: Mapping[str, tuple[tuple[str, str, SplitConfig], Mapping[str, Any]]] = {
    "item_facts": (_FILMS, {"max_items": 15}),
    "llmhg": (_FILMS, {"max_users": 12, "n_items": 10, "max_angles": 2, "max_categories": 2}),
    "llmrg": (_FILMS, {"max_users": 8, "n_items": 8, "max_chains": 2, "n_rounds": 2, "min_score": 10}),
    "sagcn": (_GOODS, {**_REVIEWS, "text": "reviewText", "n_items": 5, "n_reviews": 2, "max_reviews": 15}),
    "llm_kerec_style": (_FILMS, {"max_items": 12, "n_head": 4, "n_torso": 4, "max_pairs": 12}),
}


def sample(name: str) -> tuple[Graph, Method]:
    """Return a split data set and the method that asks about a part of it; skip where the data is absent."""
    (kind, folder, how), values = SAMPLES[name]
    path = shared(folder)
    if kind == "table":
        path = path / "reviews.csv.gz"
        values = {**values, "reviews": str(path)}
    source, method = Source.find(kind), Method.find(name)
    columns = {**_REVIEWS, "timestamp": "unixReviewTime"} if kind == "table" else {}
    graph = split(source(build_config(source.Config, columns)).read(path), how)
    return graph, method(build_config(method.Config, values))
