"""What a method may show: train histories in the order of time, users and items in the order of their activity."""

from collections import Counter, defaultdict

from kg.graph import Graph
from kg.terms import ITEM, TRAIN


def train_histories(graph: Graph) -> dict[str, list[str]]:
    """Return each user's train items, oldest first; interactions without a time come first, by id."""
    train = graph.interactions_of(TRAIN)
    columns = (train[c].to_pylist() for c in ("user_id", "timestamp", "item_id"))
    rows = sorted((user, -1 if when is None else when, item) for user, when, item in zip(*columns, strict=True))
    histories: dict[str, list[str]] = defaultdict(list)
    for user, _, item in rows:
        histories[user].append(item)
    return dict(histories)


def most_active(histories: dict[str, list[str]], min_interactions: int, max_users: int) -> list[str]:
    """Return the users with most train items, then by id.

    Args:
        histories: as `train_histories` gives them.
        min_interactions: fewest train items of a user.
        max_users: at most so many users.
    """
    chosen = [user for user, items in histories.items() if len(items) >= min_interactions]
    return sorted(chosen, key=lambda u: (-len(histories[u]), u))[:max_users]


def items_by_popularity(graph: Graph) -> list[tuple[str, str, str | None]]:
    """Return (id, name, text) of all items, those with most train interactions first, then by id."""
    counts = Counter(graph.interactions_of(TRAIN)["item_id"].to_pylist())
    columns = (graph.entities[c].to_pylist() for c in ("entity_id", "type", "name", "text"))
    items = [(i, name, text) for i, kind, name, text in zip(*columns, strict=True) if kind == ITEM]
    return sorted(items, key=lambda item: (-counts[item[0]], item[0]))
