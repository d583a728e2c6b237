"""A hand-written graph that every test can read: 6 users, 8 items, 6 other entities, 3 hyperedges."""

from kg.graph import Graph

USERS = [f"user:{n}" for n in range(1, 7)]
ITEMS = [f"item:{n}" for n in range(1, 9)]
_LIKES = {1: [1, 2, 3, 4], 2: [2, 3, 4, 5], 3: [1, 3, 5, 7], 4: [2, 4, 6, 8], 5: [5, 6, 7, 8], 6: [1, 6, 7, 8]}
_TRIPLES = [
    ("item:1", "has_genre", "genre:comedy", 1.0, "dataset:toy"),
    ("item:2", "has_genre", "genre:comedy", 1.0, "dataset:toy"),
    ("item:3", "has_genre", "genre:comedy", 1.0, "dataset:toy"),
    ("item:5", "has_genre", "genre:drama", 1.0, "dataset:toy"),
    ("item:6", "has_genre", "genre:drama", 1.0, "dataset:toy"),
    ("item:5", "directed_by", "person:anna", 1.0, "dataset:toy"),
    ("item:7", "directed_by", "person:anna", 1.0, "dataset:toy"),
    ("item:7", "acted_by", "person:anna", 1.0, "dataset:toy"),
    ("item:5", "has_mood", "mood:dark", 0.6, "llm:aaaa"),
    ("item:7", "has_mood", "mood:dark", 0.8, "llm:aaaa"),
    ("item:7", "has_mood", "mood:dark", 0.5, "llm:bbbb"),
    ("user:1", "has_interest", "interest:slapstick", 0.9, "llm:bbbb"),
]
_MEMBERS = {
    "hyperedge:1": [("item:1", "item"), ("item:2", "item"), ("item:3", "item"), ("user:1", "user")],
    "hyperedge:2": [("item:5", "item"), ("item:6", "item"), ("user:5", "user")],
    "hyperedge:3": [("item:7", "item"), ("item:8", "item"), ("user:6", "user")],
}


def toy_graph() -> Graph:
    """Each user's last item is `test`, the one before it `valid`; timestamps rise by a day an item."""
    return Graph.from_rows(
        entities=_entities(),
        interactions=_interactions(),
        triples=[dict(zip(("head", "relation", "tail", "confidence", "source"), t, strict=True)) for t in _TRIPLES],
        hyperedges=[
            {"hyperedge_id": h, "relation": "interest", "weight": 0.7, "source": "llm:bbbb"} for h in sorted(_MEMBERS)
        ],
        members=[
            {"hyperedge_id": h, "entity_id": e, "role": role, "position": place if h == "hyperedge:1" else None}
            for h, members in _MEMBERS.items()
            for place, (e, role) in enumerate(members)
        ],
        texts=[
            {"entity_id": "item:5", "kind": "summary", "text": "Rain, „night“ and a lie — 夜.", "source": "llm:aaaa"},
            {"entity_id": "hyperedge:1", "kind": "category", "text": "slapstick", "source": "llm:bbbb"},
        ],
        features=[{"entity_id": "item:5", "kind": "minilm", "vector": [0.25, -0.5, 1.0]}],
        sources=_sources(),
    )


def _entities() -> list[dict[str, object]]:
    others = {
        "genre:comedy": "Genre",
        "genre:drama": "Genre",
        "person:anna": "Person",
        "mood:dark": "Mood",
        "interest:slapstick": "Interest",
        "place:paris": "Place",
    }
    named = {**dict.fromkeys(USERS, "User"), **dict.fromkeys(ITEMS, "Item"), **others}
    return [
        {"entity_id": i, "type": t, "name": i.partition(":")[2], "text": f"Film {i}." if t == "Item" else None}
        for i, t in named.items()
    ]


def _interactions() -> list[dict[str, object]]:
    rows = []
    for user, items in _LIKES.items():
        for place, item in enumerate(items):
            split = {2: "valid", 3: "test"}.get(place, "train")
            day = 86_400 * place + user
            rows.append(
                {
                    "user_id": f"user:{user}",
                    "item_id": f"item:{item}",
                    "timestamp": day,
                    "value": 4.0 + place % 2,
                    "split": split,
                }
            )
    return rows


def _sources() -> list[dict[str, object]]:
    shown = [{"user_id": "user:1", "item_id": "item:1"}, {"user_id": "user:1", "item_id": "item:2"}]
    reply = {"kind": "llm", "model": "scripted", "prompt_version": "v1", "tokens": 40}
    return [
        {"source": "dataset:toy", "kind": "dataset"},
        {"source": "rule:popularity", "kind": "rule"},
        {
            **reply,
            "source": "llm:aaaa",
            "prompt": "item_facts",
            "unit": "item:5",
            "quote": "a lie",
            "span": "18:23",
            "reply": '{"mood": "dark"}',
            "reply_sha": "aaaa",
        },
        {
            **reply,
            "source": "llm:bbbb",
            "prompt": "llmhg",
            "unit": "user:1",
            "reply": '{"angle": "humour"}',
            "reply_sha": "bbbb",
            "shown": shown,
        },
    ]
