"""`kglift show`: the neighbourhood of an entity of a store as one HTML file that needs no network.

The entity is in the middle, its neighbours on a ring around it, and the other members of its hyperedges on a second
ring. A hyperedge is a small node with a spoke to each member. Shapes, line styles and words say what colours say, too.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from db.store import GraphStore
from kg.errors import UnknownIdError, first_five
from kg.terms import DATASET, INTERACTS, ITEM, LLM, RULE, USER
from kglift.labels import HYPEREDGE
from kglift.sentences import relation_words

_FIND: Final = (
    "MATCH (e:Entity) WHERE e.entity_id = $text OR e.name = $text "
    "RETURN e.entity_id AS id, e.type AS type, e.name AS name, e.text AS text ORDER BY id LIMIT 6"
)
_NAMED: Final = (
    "MATCH (e:Entity) WHERE e.entity_id IN $ids "
    "RETURN e.entity_id AS id, e.type AS type, e.name AS name, 'entity' AS kind"
)
_TOLD: Final = (
    "MATCH (h:Hyperedge) WHERE h.hyperedge_id IN $ids OPTIONAL MATCH (h)-[:HAS_TEXT]->(t:Text) "
    "RETURN h.hyperedge_id AS id, h.relation AS type, min(t.text) AS name, 'hyperedge' AS kind"
)
_SOURCES: Final = (
    "MATCH (s:Source) WHERE s.source IN $ids "
    "RETURN s.source AS source, s.kind AS kind, s.model AS model, s.prompt AS prompt, s.quote AS quote"
)
_RADII: Final = (0.0, 210.0, 390.0)
_MOST_NEIGHBOURS: Final = 5_000
_MOST_MEMBERS: Final = 9
_LABEL: Final = 26
_LABEL_AT: Final = (0.7, 0.58, 0.82, 0.46, 0.34)
_BEND: Final = 22.0
_MARGIN: Final = (250.0, 60.0)
_MEMBER: Final = "member/"

_Sources = dict[str | None, dict[str, Any]]
_Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class _Edge:
    """A fact, an interaction or a spoke in the direction of the fact, with the (confidence, source) pairs of it."""

    head: str
    relation: str
    tail: str
    stated: tuple[tuple[float | None, str | None], ...]

    def other(self, node: str) -> str:
        """Return the end that is not `node`."""
        return self.tail if self.head == node else self.head

    @property
    def is_spoke(self) -> bool:
        """Whether it joins a member, its head, to a hyperedge, its tail."""
        return self.relation.startswith(_MEMBER)


def find_in_store(store: GraphStore, text: str) -> dict[str, Any]:
    """Find an entity by its id, or by its name if only one bears it.

    Raises:
        UnknownIdError: if there is none, or there are several.
    """
    rows = store.query(_FIND, {"text": text}).to_pylist()
    exact = [row for row in rows if row["id"] == text] or rows
    if len(exact) == 1:
        return dict(exact[0])
    if exact:
        msg = f"several entities are called `{text}`: {first_five([r['id'] for r in exact])}; give one of the ids"
    else:
        msg = f"the store has no entity `{text}`; give its id or its whole name, e.g. as `kglift query` shows it"
    raise UnknownIdError(msg)


def render_neighbourhood(store: GraphStore, text: str, *, limit: int = 24) -> str:
    """Draw what is around an entity.

    Args:
        store: where it lies.
        text: its id or its name.
        limit: how many neighbours to draw; hyperedges come first, then facts of an LLM, other facts, interactions.

    Returns:
        The page.

    Raises:
        UnknownIdError: if there is no such entity, or several.
    """
    center = find_in_store(store, text)
    around, is_all = _around(store, center["id"], _MOST_NEIGHBOURS)
    sources = _sources(store, around)
    around = sorted(around, key=lambda e: (_rank(e, sources), e.relation, e.head, e.tail))
    neighbours = list(dict.fromkeys(e.other(center["id"]) for e in around))
    ring = set(neighbours[:limit])
    edges = [e for e in around if e.other(center["id"]) in ring]
    members = {e.tail: _others(store, e, center["id"]) for e in edges if e.is_spoke}
    spokes = {hyperedge: found[:_MOST_MEMBERS] for hyperedge, found in members.items()}
    edges += [spoke for part in spokes.values() for spoke in part]
    outer = {node: [s.head for s in spokes.get(node, ()) if s.head not in ring] for node in neighbours[:limit]}
    places = _places(center["id"], outer)
    named = _named(store, places)
    nodes = {node: _node(node, named.get(node, (node, "entity", "")), place) for node, place in places.items()}
    sources |= _sources(store, edges)
    drawn = [_drawn(e, nodes, sources, center["id"], bend) for e, bend in zip(edges, _bends(edges), strict=True)]
    picture = {
        "center": {**center, "name": center["name"] or center["id"]},
        "nodes": list(nodes.values()),
        "edges": drawn,
        "labels": _labels([e for e in drawn if e["is_labelled"]], nodes.values()),
        "box": _box(places.values()),
        "n_shown": len(ring),
        "n_neighbours": f"{len(neighbours):,}" if is_all else f"more than {len(neighbours):,}",
        "n_left_out": sum(len(members[hyperedge]) - len(found) for hyperedge, found in spokes.items()),
    }
    loader = PackageLoader("kglift", ".")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template("show.html.jinja").render(picture=picture)


def _around(store: GraphStore, node: str, limit: int) -> tuple[list[_Edge], bool]:
    """Return the edges at a node, and whether these are all."""
    rows = store.neighbours(node, limit=limit).to_pylist()
    stated: dict[tuple[str, str, str], list[tuple[float | None, str | None]]] = {}
    for row in rows:
        ends = (row["entity_id"], row["neighbour_id"])
        head, tail = ends if row["direction"] == "out" else ends[::-1]
        stated.setdefault((head, row["relation"], tail), []).append((row["confidence"], row["source"]))
    edges = [_Edge(head, relation, tail, tuple(said)) for (head, relation, tail), said in stated.items()]
    return edges, len(rows) < limit


def _others(store: GraphStore, edge: _Edge, center: str) -> list[_Edge]:
    """Return the spokes of a hyperedge, the tail of `edge`, to other members than the middle; rare roles first."""
    around, _ = _around(store, edge.tail, _MOST_NEIGHBOURS)
    spokes = [e for e in around if e.is_spoke and e.tail == edge.tail and e.head != center]
    bearers = Counter(spoke.relation for spoke in spokes)
    return sorted(spokes, key=lambda spoke: bearers[spoke.relation])


def _sources(store: GraphStore, edges: Iterable[_Edge]) -> _Sources:
    ids = sorted({source for edge in edges for _, source in edge.stated if source is not None})
    return {row["source"]: row for row in store.query(_SOURCES, {"ids": ids}).to_pylist()} if ids else {}


def _kind(edge: _Edge, sources: _Sources) -> str:
    """Return what is least in doubt: a data set, else a rule, else an LLM; interactions have no source."""
    if edge.relation == INTERACTS:
        return "interaction"
    kinds = {sources[source]["kind"] for _, source in edge.stated if source in sources}
    return next((kind for kind in (DATASET, RULE) if kind in kinds), LLM)


def _rank(edge: _Edge, sources: _Sources) -> int:
    return -1 if edge.is_spoke else [LLM, RULE, DATASET, "interaction"].index(_kind(edge, sources))


def _named(store: GraphStore, ids: Iterable[str]) -> dict[str, tuple[str, str, str]]:
    wanted = {"ids": list(ids)}
    found = [*store.query(_TOLD, wanted).to_pylist(), *store.query(_NAMED, wanted).to_pylist()]
    return {row["id"]: (row["name"] or row["id"], row["kind"], row["type"]) for row in found}


def _places(center: str, outer: Mapping[str, list[str]]) -> dict[str, tuple[float, float]]:
    """Place the middle, the ring and, behind each node of the ring, the members that only it leads to."""
    places = {center: (0.0, 0.0)}
    turn, total = 0.0, sum(max(1, len(members)) for members in outer.values())
    for node, members in outer.items():
        share = max(1, len(members))
        places[node] = _at(1, (turn + share / 2) / total)
        for nth, member in enumerate(members):
            places.setdefault(member, _at(2, (turn + nth + 0.5) / total))
        turn += share
    return places


def _at(ring: int, turn: float) -> tuple[float, float]:
    angle = 2 * math.pi * turn - math.pi / 2
    height = math.asin(math.sin(angle)) / (math.pi / 2)  # not the sine: labels get rows of equal distance
    return round(_RADII[ring] * math.cos(angle), 1), round(_RADII[ring] * height, 1)


def _node(node: str, named: tuple[str, str, str], place: tuple[float, float]) -> dict[str, Any]:
    name, kind, node_type = named
    (x, y), kinds = place, {USER: "user", ITEM: "item"}
    side = 0 if abs(x) < 12 else math.copysign(1, x)
    return {
        "id": node,
        "name": name,
        "kind": kind if kind == HYPEREDGE else kinds.get(node_type, kind),
        "type": node_type,
        "label": name if len(name) <= _LABEL else f"{name[: _LABEL - 1]}…",
        "x": x,
        "y": y,
        "anchor": {0: "middle", 1: "start", -1: "end"}[int(side)],
        "dx": 14 * side,
        "dy": 4 if side else (-14 if y < 0 else 24),
    }


def _drawn(
    edge: _Edge, nodes: Mapping[str, Mapping[str, Any]], sources: _Sources, center: str, bend: float
) -> dict[str, Any]:
    head, tail, words = nodes[edge.head], nodes[edge.tail], relation_words(edge.relation)
    start, end = (head, tail) if edge.head == center else (tail, head)
    confidences = [f"{confidence:.2f}" for confidence, _ in edge.stated if confidence is not None]
    return {
        "head": head["name"],
        "tail": tail["name"],
        "words": words,
        "kind": _kind(edge, sources),
        "title": f"{head['name']} — {words} — {tail['name']}",
        "confidences": ", ".join(confidences),
        "evidence": [_evidence(sources[s]) for _, s in edge.stated if s in sources] or ["the interactions"],
        "is_labelled": center in (edge.head, edge.tail) and edge.relation != INTERACTS,
        **_curve((start["x"], start["y"]), (end["x"], end["y"]), bend),
    }


def _bends(edges: list[_Edge]) -> list[float]:
    """Return how far each edge leaves the straight line, so that edges between the same nodes are told apart."""
    seen: Counter[frozenset[str]] = Counter()
    bends = []
    for edge in edges:
        nth = seen[frozenset((edge.head, edge.tail))]
        bends.append(_BEND * ((nth + 1) // 2) * (-1) ** nth)
        seen[frozenset((edge.head, edge.tail))] += 1
    return bends


def _curve(start: tuple[float, float], end: tuple[float, float], bend: float) -> dict[str, Any]:
    """Return the path from start to end as SVG, and the places on it where its label may be."""
    (x1, y1), (x2, y2) = start, end
    length = math.hypot(x2 - x1, y2 - y1) or 1.0
    across = (y1 - y2) / length * bend, (x2 - x1) / length * bend
    middle = f"{(x1 + x2) / 2 + 2 * across[0]:.1f} {(y1 + y2) / 2 + 2 * across[1]:.1f}"
    places = []
    for at in _LABEL_AT:
        risen = 4 * at * (1 - at)  # of a quadratic curve, 1 in its middle
        places.append((x1 + (x2 - x1) * at + across[0] * risen, y1 + (y2 - y1) * at + across[1] * risen))
    return {"path": f"M{x1:g} {y1:g}Q{middle} {x2:g} {y2:g}", "places": places}


def _labels(edges: list[dict[str, Any]], nodes: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Put the words of each edge where they cover the least of what is written already."""
    taken: list[_Box] = []
    for n in nodes:
        (x, y), width = (n["x"], n["y"]), 7 * len(n["label"]) + 6 * len(n["type"]) + 4
        taken += [(x - 10, y - 10, x + 10, y + 10), _written(x + n["dx"], y + n["dy"], width, n["anchor"])]
    labels = []
    for edge in edges:
        choices = [(x, y, _written(x, y, 6 * len(edge["words"]), "middle")) for x, y in edge["places"]]
        x, y, box = min(choices, key=lambda choice: sum(_shared(choice[2], other) for other in taken))
        taken.append(box)
        labels.append({"words": edge["words"], "x": round(x, 1), "y": round(y, 1)})
    return labels


def _written(x: float, y: float, width: float, anchor: str) -> _Box:
    """Return left, top, right and bottom of a line of text, generously."""
    left = x - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
    return left, y - 12, left + width, y + 4


def _shared(one: _Box, other: _Box) -> float:
    """Return the area that both boxes cover."""
    wide, high = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, wide) * max(0.0, high)


def _evidence(source: Mapping[str, Any]) -> str:
    about = ", ".join(str(source[key]) for key in ("model", "prompt") if source[key])
    quote = f": “{source['quote']}”" if source["quote"] else ""
    return f"{source['source']} ({source['kind']}{', ' + about if about else ''}){quote}"


def _box(places: Iterable[tuple[float, float]]) -> str:
    listed = list(places)
    (left, top), (right, bottom) = (tuple(pick(p[axis] for p in listed) for axis in (0, 1)) for pick in (min, max))
    wide, high = _MARGIN
    return f"{left - wide:g} {top - high:g} {right - left + 2 * wide:g} {bottom - top + 2 * high:g}"
