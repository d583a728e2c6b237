"""The explained recommendations of a run: a few users drawn by the seed, each with the model's first item."""

import random
from pathlib import Path

from gnn.checkpoint import load_model
from gnn.explain import PathFinder
from gnn.recommend import recommend
from kg.ckg import CollaborativeKG
from kg.files import read_graph, read_manifest
from kg.progress import Progress, silent
from kg.terms import TEST, USER
from kglift.explain import Explanation, explain
from kglift.stages import STAGE_FORMAT


def explain_some(root: Path, n_users: int, seed: int, progress: Progress = silent) -> list[Explanation]:
    """Explain the first recommendation for a few users.

    The users are drawn by the seed from those that are evaluated, not chosen for good explanations.

    Args:
        root: a run's directory, whose `bench` stage is done.
        n_users: how many.
        seed: of the draw.
        progress: told after each.

    Returns:
        Explanations by the kept model of the primary recommender; none where the run kept no model.
    """
    bench = read_manifest(root / "bench", STAGE_FORMAT)["config"]
    if bench["model"] is None:
        return []
    graph = read_graph(root / "fuse")
    ckg = CollaborativeKG.from_graph(graph)
    model = load_model(root / "bench" / "model", ckg)
    evaluated = set(graph.interactions_of(TEST)["user_id"].to_pylist())
    users = [u for u in graph.ids_of(USER) if u in evaluated]
    users = random.Random(seed).sample(users, min(n_users, len(users)))
    finder = PathFinder(ckg)
    explanations = []
    for count, row in enumerate(recommend(model, ckg, users, 1).to_pylist(), start=1):
        explanations.append(explain(graph, finder, row["user_id"], row["item_id"]))
        progress(count, len(users))
    return explanations
