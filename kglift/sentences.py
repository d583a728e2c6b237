"""Puts a path of the graph into one readable sentence."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from kg.terms import INTERACTS, LLM, USER

if TYPE_CHECKING:
    from kglift.explain import Edge, Node

_MEMBER = "member/"
_VERBS = ("has ", "is ", "belongs ", "includes ", "contains ", "features ", "explores ", "appeals ")
_PARTICIPLE_ENDS = (" by", " in", " at", " to", " from", " on", " of", " with", " for")


def sentence_of(nodes: "Sequence[Node]", edges: "Sequence[Edge]") -> str:
    """Say why the last node suits the first one.

    Args:
        nodes: of a path, the user first.
        edges: of the path, one fewer.

    Returns:
        One sentence. What an LLM stated carries the model, prompt and words behind it, at its first mention.
    """
    clauses: list[str] = []
    known: set[str] = set()
    for i, edge in enumerate(edges):
        told = _told(edge, known)
        echo = _echo(nodes[i + 1], edges[i - 1], edge) if i and i == len(edges) - 1 else None
        clauses.append((echo or _clause(nodes[i], nodes[i + 1], edge, is_first=i == 0)) + told)
        known.update(e.source for e in edge.evidence)
    return "Because " + ", ".join(clauses) + "."


def relation_words(relation: str) -> str:
    """Return a relation's name as words: `film.film.directed_by` gives `directed by`."""
    return relation.rpartition(".")[2].replace("_", " ").replace("/", " ").strip()


def _clause(start: "Node", end: "Node", edge: "Edge", *, is_first: bool) -> str:
    subject = ("you" if start.type == USER else start.name) if is_first else "which"
    if edge.relation == INTERACTS:
        if edge.is_backward:
            return f"{subject} {end.label} chose too"
        return f"you chose {end.name}" if is_first else f"who also chose {end.name}"
    if edge.relation.startswith(_MEMBER):
        if edge.is_backward:
            return f"{subject} also holds {end.label}"
        return f"{subject} {'belong' if subject == 'you' else 'belongs'} to “{end.name}”"
    words = relation_words(edge.relation)
    if edge.is_backward:
        return f"to {subject} {end.label} is tied by “{words}”"
    return f"{_forward(subject, words)} {end.label}"


def _forward(subject: str, words: str) -> str:
    if words.startswith(_VERBS):
        return f"{subject} {'have' + words[3:] if subject == 'you' and words.startswith('has ') else words}"
    if words.endswith(_PARTICIPLE_ENDS):
        return f"{subject} {'are' if subject == 'you' else 'is'} {words}"
    owner = {"you": "your", "which": "whose"}.get(subject, f"{subject}'s")
    return f"{owner} “{words}” is"


def _echo(item: "Node", before: "Edge", last: "Edge") -> str | None:
    """Return the short form of "and the item does so too", where the last two edges mirror each other."""
    if not last.is_backward or before.is_backward or before.relation != last.relation or last.relation == INTERACTS:
        return None
    words = relation_words(last.relation)
    if words.startswith("has "):
        return f"as has {item.name}"
    if words.startswith("is ") or words.endswith(_PARTICIPLE_ENDS):
        return f"as is {item.name}"
    if words.startswith(_VERBS) or last.relation.startswith(_MEMBER):
        return f"as does {item.name}"
    return f"like that of {item.name}"


def _told(edge: "Edge", known: Collection[str]) -> str:
    """Return model, prompt and words of an LLM that alone states the edge, unless they were told already."""
    if not edge.evidence or any(e.kind != LLM or e.source in known for e in edge.evidence):
        return ""
    best = edge.evidence[0]
    words = f": “{best.quote or best.words}”" if best.quote or best.words else ""
    return f" ({best.model}, {best.prompt} {best.prompt_version}{words})"
