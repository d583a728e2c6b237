"""`item_facts`: facts about one item, under the relations of a domain schema."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from extract.documents import clean
from extract.domains import load_domain
from extract.echo import REPEATS_PROMPT, is_phrase, labels_of
from extract.ground import CONCEPT_FORM, Catalogue, Likeness, concept_id, is_placeholder, normalise
from extract.histories import items_by_popularity
from extract.method import Facts, Method, Rejected, Unit, check_ranges
from kg.errors import SchemaError
from kg.graph import Graph
from kg.schema import DomainSchema, Relation
from kg.terms import ITEM

_MAX_TAIL = 80
_MAX_TITLE = 120
_MAX_WORDS = 4
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+")


class ItemFacts(Method, name="item_facts"):
    r"""Ask what a model knows about an item, one item a question, and keep what the domain schema allows.

    1. Units: items in order of falling number of train interactions, then id. The question shows the title and the
       text of the item and the relations whose head is an item; no interaction is shown.
    2. Reply: for each relation at most `max_tails` tails, perhaps none. The reply's JSON schema allows the asked
       relations only, and bounds a tail to four words and 28 characters (an item's title: 80).
    3. Facts: a triple (item, relation, tail) for each tail that is kept. A tail of type Item must name an item of the
       catalogue, as `extract.ground.Catalogue` finds it; any other becomes an entity whose id is its type and its
       normalised name.
    4. Confidence, a rule, not a word of the model: c(i, r, t) = `confidence_in_text` if every word of t stands in the
       title or text of i, `confidence_from_memory` otherwise. Where a sentence of the text has all words of t, it
       is the quote that the fact rests on.                                                                         (1)

    Rejected, with these reasons: `placeholder` (nothing, or a word such as "unknown" or "theme"), `too_long` (more
    than four words: no name of a concept), `repeats_title`, `repeats_prompt` (a relation, words of its description, or
    a word such as `year` that the item's text has before a colon),
    `not_in_catalogue`, `ambiguous`, `self_loop`, `duplicate`.

    Limits: whether a fact is true is not checked here; one reply is one opinion.

    Source:
        No single paper. The task (schema-bound triples about an item from a language model's knowledge) is common to
        the knowledge-augmentation methods of the survey "Large Language Model Enhanced Recommender Systems" (KDD 2025),
        section 2.2; grounding with counted rejections follows its methods LLMRG and LLM-PKG.

    Deviations:
        Our own design throughout: prompt, reply form, rule (1) and the rejections.
    """

    prompt = "item_facts.v1"

    @dataclass(frozen=True)
    class Config:
        """What to ask, of which items.

        Attributes:
            domain: name of a domain schema that kglift brings, or the path of a TOML file.
            relations: the part of the schema's relations to ask for; empty: all that start at an item.
            max_items: so many items, the most popular first.
            max_tails: at most so many tails of one relation.
            min_similarity: from which likeness of letters on an unknown title means the nearest item; 1: never.
            min_meaning: from which likeness of meaning on, by a sentence encoder; 1: no encoder is asked.
            confidence_in_text: of a tail whose words stand in the item's title or text.
            confidence_from_memory: of any other tail.
        """

        domain: str = "movies"
        relations: tuple[str, ...] = ()
        max_items: int = 1000
        max_tails: int = 2
        min_similarity: float = 0.85
        min_meaning: float = 1.0
        confidence_in_text: float = 0.9
        confidence_from_memory: float = 0.6

        def __post_init__(self) -> None:
            """Check the ranges."""
            bounds: dict[str, tuple[float, float]] = {"max_items": (1, 10**9), "max_tails": (1, 20)}
            shares = ("min_similarity", "min_meaning", "confidence_in_text", "confidence_from_memory")
            check_ranges(self, bounds | dict.fromkeys(shares, (0.0, 1.0)))

    config: Config
    Reply = BaseModel

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.relations = _chosen(load_domain(config.domain), config.relations)
        self.Reply = _reply_type(self.relations.values(), config.max_tails)
        self._catalogue: tuple[Graph, Catalogue] | None = None
        self._types = {f"{normalise(r.tail)}{plural}" for r in self.relations.values() for plural in ("", "s")}
        self._descriptions = [normalise(r.description) for r in self.relations.values()]
        # A name of one word, such as `genre`, may well be part of a tail; one such as `has_mood` may not.
        self._names = [normalise(name) for name in self.relations if "_" in name]

    def units(self, graph: Graph) -> Iterator[Unit]:
        """Yield a question for each of the most popular items that have words to show.

        Args:
            graph: its items, and its train interactions to count.
        """
        relations = [{"name": r.name, "description": r.description} for r in self.relations.values()]
        constant = {"relations": relations, "max_tails": self.config.max_tails}
        n_units = 0
        for item_id, name, text in items_by_popularity(graph):
            title, about = clean(name, _MAX_TITLE), clean(text)
            if not about and title in ("", item_id):
                continue
            yield Unit(item_id, {**constant, "title": title, "text": about.removeprefix(title).lstrip(" .:;-")})
            n_units += 1
            if n_units == self.config.max_items:
                return

    def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
        """Turn the pairs of a reply into entities and triples.

        Args:
            reply: a `Reply` of this method.
            unit: the question; its title and text decide the confidence.
            graph: its items are the catalogue for tails that are items.

        Returns:
            Rows of `entities` and `triples`, and what was rejected.
        """
        entities: dict[str, dict[str, Any]] = {}
        triples: dict[tuple[str, str], dict[str, Any]] = {}
        rejected, n_grounded = [], 0
        given = reply.model_dump(by_alias=True)
        for name, written in [(name, tail) for name, tails in given.items() for tail in tails]:
            entity = self._tail(self.relations[name], clean(written, _MAX_TAIL), unit, graph)
            n_grounded += entity == "self_loop" if isinstance(entity, str) else entity["type"] == ITEM
            if isinstance(entity, dict) and (name, entity["entity_id"]) in triples:
                entity = "duplicate"
            if isinstance(entity, str):
                rejected.append(Rejected(entity, f"{name}: {written}"))
                continue
            tail = entity["entity_id"]
            if entity["type"] != ITEM:
                entities[tail] = entity
            confidence = self._confidence(written, unit)
            triple = {"head": unit.unit_id, "relation": name, "tail": tail, "confidence": confidence}
            quote = _sentence_with(written, unit.variables["text"])
            triples[name, tail] = triple | ({"quote": quote} if quote else {})
        return Facts({"entities": list(entities.values()), "triples": list(triples.values())}, rejected, n_grounded)

    def _tail(self, relation: Relation, tail: str, unit: Unit, graph: Graph) -> dict[str, Any] | str:
        """Return the row of the tail's entity, or the reason why it is rejected."""
        words = normalise(tail)
        if is_placeholder(words) or words in self._types:
            return "placeholder"
        if self._is_echo(words, unit):
            return REPEATS_PROMPT
        if relation.tail == ITEM:
            return self._item(tail, unit, graph)
        if words == normalise(unit.variables["title"]):
            return "repeats_title"
        if len(words.split()) > _MAX_WORDS:
            return "too_long"
        entity_id, canonical = concept_id(relation.tail, tail)
        return {"entity_id": entity_id, "type": relation.tail, "name": canonical}

    def _is_echo(self, words: str, unit: Unit) -> bool:
        """Say whether a tail holds a relation or a label of the text, or is a description or some words of one."""
        joined = words.replace(" ", "")  # small models lose blanks
        has_name = any(f" {name}" in f" {words}" or name.replace(" ", "") == joined for name in self._names)
        is_label = not labels_of(unit.variables["text"]).isdisjoint(words.split())
        return has_name or is_label or is_phrase(words, self._descriptions)

    def _item(self, tail: str, unit: Unit, graph: Graph) -> dict[str, Any] | str:
        found = self._catalogue_of(graph).ground(tail)
        if found.entity_id is None:
            return found.reason
        return "self_loop" if found.entity_id == unit.unit_id else {"entity_id": found.entity_id, "type": ITEM}

    def _catalogue_of(self, graph: Graph) -> Catalogue:
        if self._catalogue is None or self._catalogue[0] is not graph:
            names, c = graph.names(), self.config
            titles = {i: clean(names[i], _MAX_TITLE) for i in graph.ids_of(ITEM)}
            self._catalogue = (graph, Catalogue(titles, Likeness(c.min_similarity, c.min_meaning, self.encode)))
        return self._catalogue[1]

    def _confidence(self, tail: str, unit: Unit) -> float:
        shown = set(normalise(f"{unit.variables['title']} {unit.variables['text']}").split())
        is_in_text = set(normalise(tail).split()) <= shown
        return self.config.confidence_in_text if is_in_text else self.config.confidence_from_memory


def _sentence_with(tail: str, text: str) -> str:
    """Return the first sentence of a text that has all words of a tail; empty if none has."""
    words = set(normalise(tail).split())
    return next((s for s in _SENTENCE_END.split(text) if words and words <= set(normalise(s).split())), "")


def _chosen(schema: DomainSchema, names: tuple[str, ...]) -> dict[str, Relation]:
    relations = [schema.relation(name) for name in names] if names else list(schema.relations)
    chosen = {r.name: r for r in relations if r.head == ITEM}
    if len(chosen) < max(1, len(set(names))):
        ends = ", ".join(f"`{r.name}` ({r.head})" for r in relations if r.head != ITEM) or "none"
        msg = (
            f"domain `{schema.domain}`: every relation asked for must start at {ITEM}, others are {ends}; "
            "leave them out of `relations`, or correct the schema"
        )
        raise SchemaError(msg)
    return chosen


def _reply_type(relations: Iterable[Relation], max_tails: int) -> type[BaseModel]:
    """Return the reply model: a field for each relation that was asked for.

    The schema keeps concepts short; validation does not, so that a model that is not held to it loses one tail
    by one slip and not the reply.
    """
    concept: Any = Annotated[str, Field(min_length=1, max_length=_MAX_TAIL, json_schema_extra=CONCEPT_FORM)]
    title: Any = Annotated[str, Field(min_length=1, max_length=_MAX_TAIL)]
    fields: dict[str, Any] = {}
    for place, relation in enumerate(relations):
        tail: Any = title if relation.tail == ITEM else concept
        tails: Any = Annotated[list[tail], Field(max_length=max_tails)]
        fields[f"r{place}"] = (tails, Field(alias=relation.name))
    return create_model("ItemFactsReply", __config__=ConfigDict(extra="forbid"), **fields)
