"""Why an item was recommended: paths of the fused graph, each edge with where it came from."""

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from gnn.explain import GraphPath, PathFinder
from kg.errors import UnknownIdError, first_five
from kg.graph import Graph
from kg.terms import DATASET, INTERACTS, ITEM, LLM, TRAIN, USER
from kglift.labels import node_labels
from kglift.sentences import sentence_of

_EXCERPT = 160
_SEARCHED = 60
_MEMBER = "member/"


@dataclass(frozen=True)
class Node:
    """A node of a path, with the words a reader knows it by."""

    id: str
    type: str
    name: str

    @property
    def label(self) -> str:
        """The name, which says `user` for users: theirs are mostly numbers."""
        return f"user {self.name}" if self.type == USER else self.name


@dataclass(frozen=True)
class Evidence:
    """One source that states an edge.

    Attributes:
        source: id in the `sources` table, or `interactions` for a train interaction.
        kind: dataset, rule or llm.
        confidence: what this source alone gives the edge.
        model: the LLM; None for other kinds, as all below.
        prompt: name of the prompt.
        prompt_version: version of the prompt.
        unit: what the LLM was asked about.
        words: the reply, shortened.
        quote: the words of the input that support the fact.
    """

    source: str
    kind: str
    confidence: float
    model: str | None = None
    prompt: str | None = None
    prompt_version: str | None = None
    unit: str | None = None
    words: str | None = None
    quote: str | None = None


@dataclass(frozen=True)
class Edge:
    """A step of a path, written in the direction of the fact.

    Attributes:
        head: id of the fact's head.
        relation: name of the relation.
        tail: id of the fact's tail.
        is_backward: the path walks from tail to head.
        confidence: all sources together (noisy or), as the recommender sees it.
        evidence: every source that states it, the most confident first.
    """

    head: str
    relation: str
    tail: str
    is_backward: bool
    confidence: float
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True)
class ExplainedPath:
    """A supporting path: n nodes, n - 1 edges, its score (see `gnn.explain.PathFinder`) and one readable sentence."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    score: float
    sentence: str


@dataclass(frozen=True)
class Explanation:
    """Why an item suits a user, as far as the graph can say.

    Attributes:
        user: the user.
        item: the item.
        is_known: the user has the item in `train`, so it is no recommendation.
        paths: supporting paths, best first; empty if there is none of at most three edges.
    """

    user: Node
    item: Node
    is_known: bool
    paths: tuple[ExplainedPath, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def explain(graph: Graph, finder: PathFinder, user_id: str, item_id: str, *, limit: int = 5) -> Explanation:
    """Explain one recommendation by the paths that support it.

    Of paths with the same sequence of relations at most two are shown, so that like-minded users, of whom there are
    many, leave room for facts; of paths over the same nodes only one. If an LLM states an edge of some path but of none
    that is shown, the best such path takes the last place.

    Args:
        graph: the graph that the recommender was trained on, with its sources.
        finder: built once from `CollaborativeKG.from_graph(graph)`.
        user_id: an id, a bare id or a name; see `find_entity`.
        item_id: likewise.
        limit: how many paths at most.

    Raises:
        UnknownIdError: if the user or item is unknown, or a name belongs to several.
    """
    user, item = find_entity(graph, user_id, USER), find_entity(graph, item_id, ITEM)
    ckg = finder.ckg
    pair = ckg.nodes.idx_of(user), ckg.nodes.idx_of(item) - ckg.n_users
    found = finder.find_paths(*pair, limit=max(limit, _SEARCHED), per_pattern=2, distinct_nodes=True)
    describe = _Describer(graph, finder, {n for path in found for n in path.nodes})
    paths = _with_llm([describe.path(p) for p in found], limit)
    train = graph.interactions_of(TRAIN)
    is_known = bool(pc.any(_where(train, user_id=user, item_id=item)).as_py())
    user_node, item_node = describe.node(ckg.nodes.idx_of(user)), describe.node(ckg.nodes.idx_of(item))
    return Explanation(user_node, item_node, is_known, tuple(paths))


def _with_llm(paths: list[ExplainedPath], limit: int) -> list[ExplainedPath]:
    """Return the first paths, the last of them one with an LLM's edge if only later ones have any."""
    stated = [p for p in paths if any(e.kind == LLM for edge in p.edges for e in edge.evidence)]
    shown = paths[:limit]
    if not shown or not stated or stated[0] in shown:
        return shown
    return [*shown[:-1], stated[0]]


def render_explanation(explanation: Explanation, console: Console) -> None:
    """Draw the paths as a tree in a terminal.

    Args:
        explanation: what `explain` returned.
        console: where to draw.
    """
    tree = Tree(Text(f"{explanation.item.name} for {explanation.user.label}", style="bold"))
    if explanation.is_known:
        tree.add(Text("the user has this item already: no recommendation", style="yellow"))
    if not explanation.paths:
        tree.add(Text("no path of at most three edges supports it"))
    for path in explanation.paths:
        branch = tree.add(Text(f"{path.sentence}  [{path.score:.3f}]"))
        for edge in path.edges:
            _draw_edge(branch, edge, {n.id: n.label for n in path.nodes})
    console.print(tree)


def find_entity(graph: Graph, text: str, entity_type: str) -> str:
    """Find an entity by its id (`item:50`), the id without its prefix (`50`), or its name if only one bears it.

    Args:
        graph: where to look.
        text: what a person typed; names match whatever the case.
        entity_type: User, Item or another type.

    Raises:
        UnknownIdError: if there is none (the text suggests near ones) or several.
    """
    rows = graph.entities.filter(pc.equal(graph.entities["type"], entity_type))
    names: dict[str, str] = dict(zip(rows["entity_id"].to_pylist(), rows["name"].to_pylist(), strict=True))
    if text in names:
        return text
    wanted = text.strip().casefold()
    bare = [i for i in sorted(names) if i.partition(":")[2].casefold() == wanted]
    matches = bare or [i for i in sorted(names) if names[i].strip().casefold() == wanted]
    if len(matches) == 1:
        return matches[0]
    if matches:
        msg = f"{len(matches)} of type {entity_type} are called `{text}`: {first_five(matches)}; give one of the ids"
        raise UnknownIdError(msg)
    msg = f"no {entity_type} is called `{text}`; {_nearest(wanted, names)}"
    raise UnknownIdError(msg)


def _nearest(wanted: str, names: Mapping[str, str]) -> str:
    if not names:
        return "the graph has none of this type"
    known = {key.casefold(): i for i, name in names.items() for key in (i.partition(":")[2], name, i)}
    close = difflib.get_close_matches(wanted, list(known), n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(dict.fromkeys(f"`{known[c]}` ({names[known[c]]})" for c in close)) + "?"
    sample = min(names)
    return f"there are {len(names)}, e.g. `{sample}` ({names[sample]})"


class _Describer:
    """Names nodes and finds the sources of edges, for the nodes of a few paths."""

    def __init__(self, graph: Graph, finder: PathFinder, nodes: set[int]) -> None:
        self._ckg = finder.ckg
        ids = pa.array(self._ckg.nodes.to_ids(sorted(nodes)), pa.string())
        self._types, self._names = node_labels(graph)
        self._triples = graph.triples.filter(
            pc.and_(pc.is_in(graph.triples["head"], value_set=ids), pc.is_in(graph.triples["tail"], value_set=ids))
        )
        self._hyperedges = {row["hyperedge_id"]: row for row in graph.hyperedges.to_pylist()}
        self._sources = {row["source"]: row for row in graph.sources.drop_columns(["shown"]).to_pylist()}

    def node(self, idx: int) -> Node:
        """Name one node."""
        node_id = self._ckg.nodes[idx]
        return Node(node_id, self._types[node_id], _excerpt(self._names[node_id]) or node_id)

    def path(self, path: GraphPath) -> ExplainedPath:
        """Name the nodes and edges of a path, and put it into a sentence."""
        nodes = tuple(self.node(i) for i in path.nodes)
        steps = zip(nodes, nodes[1:], path.edge_types, path.confidences, strict=False)
        edges = tuple(self._edge(a, b, kind, confidence) for a, b, kind, confidence in steps)
        return ExplainedPath(nodes, edges, path.score, sentence_of(nodes, edges))

    def _edge(self, start: Node, end: Node, kind: int, confidence: float) -> Edge:
        is_backward = kind >= self._ckg.n_relations
        head, tail = (end, start) if is_backward else (start, end)
        relation = self._ckg.relations[kind % self._ckg.n_relations]
        stated = sorted(self._evidence(head.id, relation, tail), key=lambda e: (-e.confidence, e.source))
        return Edge(head.id, relation, tail.id, is_backward, confidence, tuple(stated))

    def _evidence(self, head: str, relation: str, tail: Node) -> list[Evidence]:
        if relation == INTERACTS:
            return [Evidence("interactions", DATASET, 1.0)]
        if relation.startswith(_MEMBER) and tail.id in self._hyperedges:
            row = self._hyperedges[tail.id]
            return [self._of_source(row["source"], min(row["weight"], 1.0), tail.name)]
        stated = self._triples.filter(_where(self._triples, head=head, relation=relation, tail=tail.id))
        return [self._of_source(row["source"], row["confidence"], tail.name) for row in stated.to_pylist()]

    def _of_source(self, source: str, confidence: float, about: str) -> Evidence:
        row = self._sources[source]
        told = {key: row[key] for key in ("model", "prompt", "prompt_version", "unit")}
        quote, words = _excerpt(row["quote"]), _excerpt(row["reply"], about)
        return Evidence(source, row["kind"], confidence, **told, words=words, quote=quote)


def _draw_edge(branch: Tree, edge: Edge, names: Mapping[str, str]) -> None:
    line = Text(f"{names[edge.head]} --{edge.relation}--> {names[edge.tail]}  ", style="cyan")
    twig = branch.add(line.append(f"confidence {edge.confidence:.2f}", style="default"))
    for evidence in edge.evidence:
        said = f": “{evidence.quote or evidence.words}”" if evidence.quote or evidence.words else ""
        who = [evidence.model, evidence.prompt, evidence.prompt_version, evidence.unit]
        told = " ".join(w for w in who if w) or evidence.source
        twig.add(Text(f"{evidence.kind}: {told} ({evidence.confidence:.2f}){said}", style="dim"))


def _where(table: pa.Table, **values: str) -> pa.ChunkedArray:
    mask = None
    for column, value in values.items():
        same = pc.equal(table[column], value)
        mask = same if mask is None else pc.and_(mask, same)
    return mask


def _excerpt(text: str | None, about: str = "") -> str | None:
    """Return a text on one line without control characters, cut to the part where `about` occurs if it is long."""
    if text is None:
        return None
    words = "".join(c for c in " ".join(text.split()) if c.isprintable())  # an escape would drive the terminal
    if len(words) <= _EXCERPT:
        return words
    place = max(words.casefold().find(about.casefold()), 0)
    start = max(min(place - _EXCERPT // 2, len(words) - _EXCERPT), 0)
    cut = words[start : start + _EXCERPT].strip()
    return ("…" if start else "") + cut + ("…" if start + _EXCERPT < len(words) else "")
