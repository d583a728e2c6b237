"""Chains of items with a reason: how they stand in a graph, and what a knowledge base of them says about a history."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from extract.documents import clean
from extract.ground import Catalogue, Grounded, Likeness, forms_of, normalise, year_of
from kg.graph import Graph, mapping_of
from kg.tables import TABLES
from kg.terms import ITEM

IMAGINED = "imagined"
MASK = "[MASK]"
MAX_TITLE = 80
_MAX_ABOUT = 60
_MIN_TELLING = 4
_LIKE = 0.8
_KINDS = ("reason", "fill")
Rows = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Chain:
    """Items of which each leads to the next.

    Attributes:
        items: in their order.
        reason: why one leads to the next.
        user: whose chain it is; empty in the knowledge base.
        weight: 0 to 1.
        source: where it came from; empty before the engine knows.
        is_extended: the last item is imagined.
        note: a further text.
    """

    items: tuple[str, ...]
    reason: str
    user: str = ""
    weight: float = 1.0
    source: str = ""
    is_extended: bool = False
    note: str = ""

    @property
    def key(self) -> str:
        """A hash of the items."""
        return hashlib.sha256("\0".join(self.items).encode()).hexdigest()[:16]

    def changed(self, **values: Any) -> Self:
        """Return a copy with some attributes replaced."""
        return replace(self, **values)


def no_rows() -> Rows:
    """Return the tables of a chain, empty."""
    return {"hyperedges": [], "members": [], "texts": []}


def add_chain(rows: Rows, relation: str, chain: Chain) -> None:
    """Append a chain as an ordered hyperedge: a user perhaps, items with positions, the reason as its text."""
    whose = hashlib.sha256(chain.user.encode()).hexdigest()[:8] + ":" if chain.user else ""
    edge = f"{relation}:{whose}{chain.key}"
    origin = {"source": chain.source} if chain.source else {}
    rows["hyperedges"].append({"hyperedge_id": edge, "relation": relation, "weight": chain.weight, **origin})
    if chain.user:
        rows["members"].append({"hyperedge_id": edge, "entity_id": chain.user, "role": "user"})
    last = len(chain.items) - 1
    for place, item in enumerate(chain.items):
        role = IMAGINED if chain.is_extended and place == last else "item"
        rows["members"].append({"hyperedge_id": edge, "entity_id": item, "role": role, "position": place})
    texts = {"reason": chain.reason, "fill": chain.note}
    rows["texts"] += [{"entity_id": edge, "kind": k, "text": text, **origin} for k, text in texts.items() if text]


def chains_of(graph: Graph, relation: str) -> list[Chain]:
    """Read the chains of one relation, in the order of their ids."""
    edges = graph.hyperedges.filter(pc.equal(graph.hyperedges["relation"], relation)).sort_by("hyperedge_id")
    wanted = edges["hyperedge_id"].combine_chunks()
    members = graph.members.filter(pc.is_in(graph.members["hyperedge_id"], value_set=wanted))
    of_edge: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
    for row in members.to_pylist():
        place = -1 if row["position"] is None else row["position"]
        of_edge[row["hyperedge_id"]].append((place, row["role"], row["entity_id"]))
    texts = graph.texts.filter(pc.is_in(graph.texts["entity_id"], value_set=wanted))
    words = {kind: mapping_of(texts.filter(pc.equal(texts["kind"], kind)), "entity_id", "text") for kind in _KINDS}
    chains = []
    for edge in edges.to_pylist():
        name = edge["hyperedge_id"]
        ordered = sorted(of_edge[name])
        chains.append(
            Chain(
                items=tuple(entity for _, role, entity in ordered if role != "user"),
                reason=words["reason"].get(name, ""),
                user=next((entity for _, role, entity in ordered if role == "user"), ""),
                weight=edge["weight"],
                source=edge["source"],
                is_extended=any(role == IMAGINED for _, role, _ in ordered),
                note=words["fill"].get(name, ""),
            )
        )
    return chains


def links_of(chains: Iterable[Chain], min_weight: float) -> dict[tuple[str, str], Chain]:
    """Return the links of all chains that stand, each with the surest chain that has it."""
    links: dict[tuple[str, str], Chain] = {}
    for chain in sorted(chains, key=lambda c: (-c.weight, c.key)):
        if chain.weight >= min_weight and not chain.is_extended:
            for link in pairwise(chain.items):
                links.setdefault(link, chain)
    return links


def followed(items: Iterable[str], links: Mapping[tuple[str, str], Chain]) -> Iterator[tuple[str, str]]:
    """Yield the links whose two items stand in a history in their order."""
    place = {item: n for n, item in enumerate(items)}
    for one, other in sorted(links):
        if one in place and other in place and place[one] < place[other]:
            yield one, other


def recalled(
    histories: Mapping[str, Sequence[str]], links: Mapping[tuple[str, str], Chain], proposed: Sequence[Chain]
) -> Iterator[Chain]:
    """Yield, for each user, the known links that the user's own chains do not say already."""
    said = defaultdict[str, set[tuple[str, str]]](set)
    for chain in proposed:
        said[chain.user] |= set(pairwise(chain.items))
    for user, items in histories.items():
        for link in followed(items, links):
            if link not in said[user]:
                yield Chain(link, links[link].reason, user, source=links[link].source)


def graph_of_chains(rows: Rows, known: Graph) -> Graph:
    """Build a graph of chains with the entities and sources that they refer to.

    Args:
        rows: as `add_chain` gives them, of chains with a source.
        known: has the entities and sources.
    """
    tables = {name: pa.Table.from_pylist(rows[name], schema=TABLES[name].schema) for name in rows}
    used = {
        "entities": ("entity_id", tables["members"]["entity_id"]),
        "sources": ("source", tables["hyperedges"]["source"]),
    }
    for name, (key, values) in used.items():
        table = getattr(known, name)
        tables[name] = table.filter(pc.is_in(table[key], value_set=pc.unique(values)))
    return Graph.from_tables(**tables)


def distinct(chains: Iterable[Chain], done: set[tuple[str, ...]]) -> dict[str, Chain]:
    """Return each chain that is not done once, as the first user by id has it, in the order of keys."""
    firsts: dict[str, Chain] = {}
    for chain in sorted(chains, key=lambda c: (c.key, c.user)):
        if chain.items not in done:
            firsts.setdefault(chain.key, chain)
    return firsts


def masked_place(chain: Chain) -> int:
    """Return the place of the masked item: the imagined one, else what the chain's hash says."""
    return len(chain.items) - 1 if chain.is_extended else int(chain.key, 16) % len(chain.items)


def without_title(reason: str, title: str) -> str:
    """Return a reason with the mask in place of a title; empty where words or letters of the title would be left.

    What is masked stands in the form of `extract.ground.normalise`.

    Example:
        >>> without_title("Fallen leads to Heat (1995)", "Heat (1995)")
        'fallen leads to [MASK]'
    """
    words = normalise(reason)
    for form in sorted(forms_of(title), key=len, reverse=True):
        words = re.sub(rf"(?<!\S){re.escape(form)}(?: {year_of(title)})?(?!\S)", MASK, words)
    left, named = [word for word in words.split() if word != MASK], normalise(title).split()
    joined = "".join(named)
    telling = [word for word in (*named, joined) if len(word) >= _MIN_TELLING]
    is_joined = joined in telling and joined in "".join(left)  # small models lose blanks
    if is_joined or any(get_close_matches(word, left, 1, _LIKE) for word in telling):
        return ""
    return words if MASK in words else reason


class Words:
    """The words of items in a prompt, and the items that words mean.

    Args:
        graph: its items.
        likeness: see `Catalogue`.
    """

    def __init__(self, graph: Graph, likeness: Likeness | None = None) -> None:
        columns = (graph.entities[c].to_pylist() for c in ("entity_id", "type", "name", "text"))
        rows = [(i, clean(name, MAX_TITLE), text) for i, kind, name, text in zip(*columns, strict=True) if kind == ITEM]
        self._names = {i: name for i, name, _ in rows}
        abouts = ((i, clean(text).removeprefix(name).lstrip(" .:;-")) for i, name, text in rows)
        self._about = {i: clean(about, _MAX_ABOUT) for i, about in abouts}
        self._likeness = likeness
        self._catalogue: Catalogue | None = None

    def of(self, item: str) -> str:
        """Return title and attributes."""
        name, about = self._names[item] or "(no title)", self._about[item]
        return f"{name} ({about})" if about else name

    def masked(self, reason: str, item: str) -> str:
        """Return a reason that does not name an item."""
        return without_title(reason, self._names[item])

    def ground(self, title: str) -> Grounded:
        """Return the item that a title means."""
        if self._catalogue is None:
            self._catalogue = Catalogue(self._names, self._likeness)
        return self._catalogue.ground(title)
