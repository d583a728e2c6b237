"""`item_facts`: facts about one item, under the relations of a domain schema."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from extract.documents import clean
from extract.domains import load_domain
from extract.ground import Catalogue, concept_id, normalise
from extract.method import Facts, Method, Rejected, Unit
from kg.errors import ConfigError, SchemaError
from kg.graph import Graph
from kg.schema import DomainSchema, Relation
from kg.terms import ITEM, TRAIN

_MAX_TAIL = 40
_MAX_TITLE = 120
_PLACEHOLDERS = frozenset(
    (
        *("", "unknown", "none", "null", "n a", "na", "nil", "string", "text", "tail", "value", "fact", "facts"),
        *("not known", "not applicable", "not specified", "not available", "no information", "unspecified", "various"),
        *(
            "other",
            "others",
            "misc",
            "example",
            "placeholder",
            "item",
            "the item",
            "film",
            "the film",
            "movie",
            "title",
        ),
        *("relation", "relations", "theme", "mood", "setting", "period", "audience", "person", "genre", "genres"),
    )
)


class ItemFacts(Method, name="item_facts"):
    r"""Ask what a model knows about an item, one item a question, and keep what the domain schema allows.

    1. Units: items in order of falling number of train interactions, then id. The question shows the title and the
       text of the item and the relations whose head is an item; no interaction is shown.
    2. Reply: at most `max_facts` pairs (relation, tail). The reply's JSON schema allows the schema's relations only.
    3. Facts: a triple (item, relation, tail) for each pair that is kept. A tail of type Item must name an item of the
       catalogue; any other becomes an entity whose id is its type and its normalised name.
    4. Confidence, a rule, not a word of the model: c(i, r, t) = `confidence_in_text` if every word of t stands in the
       title or text of i, `confidence_from_memory` otherwise.                                                      (1)

    Rejected, with these reasons: `unknown_relation`, `placeholder` (nothing, or a word such as "unknown"),
    `repeats_title`, `repeats_prompt` (a relation or its description as tail), `not_in_catalogue`, `ambiguous`,
    `self_loop`, `duplicate`.

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
            max_facts: at most so many facts an item.
            confidence_in_text: of a tail whose words stand in the item's title or text.
            confidence_from_memory: of any other tail.
        """

        domain: str = "movies"
        relations: tuple[str, ...] = ()
        max_items: int = 1000
        max_facts: int = 6
        confidence_in_text: float = 0.9
        confidence_from_memory: float = 0.6

        def __post_init__(self) -> None:
            """Check the ranges."""
            for name, low, high in (("max_items", 1, 10**9), ("max_facts", 1, 50)):
                _check_range(name, getattr(self, name), low, high)
            for name in ("confidence_in_text", "confidence_from_memory"):
                _check_range(name, getattr(self, name), 0.0, 1.0)

    config: Config
    Reply = BaseModel

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.relations = _chosen(load_domain(config.domain), config.relations)
        self.Reply = _reply_type(tuple(self.relations), config.max_facts)
        self._catalogue: tuple[Graph, Catalogue] | None = None
        self._instructions = {normalise(word) for r in self.relations.values() for word in (r.name, r.description)}

    def units(self, graph: Graph) -> Iterator[Unit]:
        """Yield a question for each of the most popular items that have words to show.

        Args:
            graph: its items, and its train interactions to count.
        """
        relations = [{"name": r.name, "description": r.description} for r in self.relations.values()]
        n_units = 0
        for item_id, name, text in _by_popularity(graph):
            title = clean(name, _MAX_TITLE)
            if not (title and name != item_id) and not clean(text):
                continue
            variables = {
                "relations": relations,
                "max_facts": self.config.max_facts,
                "title": title,
                "text": clean(text),
            }
            yield Unit(item_id, variables)
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
        rejected = []
        for fact in reply.model_dump()["facts"]:
            entity = self._tail(fact["relation"], clean(fact["tail"], _MAX_TAIL), unit, graph)
            if isinstance(entity, str):
                rejected.append(Rejected(entity, f"{fact['relation']}: {fact['tail']}"))
                continue
            tail = entity["entity_id"]
            if (fact["relation"], tail) in triples:
                rejected.append(Rejected("duplicate", f"{fact['relation']}: {fact['tail']}"))
                continue
            if entity["type"] != ITEM:
                entities[tail] = entity
            triples[fact["relation"], tail] = {
                "head": unit.unit_id,
                "relation": fact["relation"],
                "tail": tail,
                "confidence": self._confidence(fact["tail"], unit),
            }
        return Facts({"entities": list(entities.values()), "triples": list(triples.values())}, rejected)

    def _tail(self, name: str, tail: str, unit: Unit, graph: Graph) -> dict[str, Any] | str:
        """Return the row of the tail's entity, or the reason why it is rejected."""
        relation = self.relations.get(name)
        if relation is None:
            return "unknown_relation"
        words = normalise(tail)
        if not any(c.isalnum() for c in words) or words in _PLACEHOLDERS:
            return "placeholder"
        if words in self._instructions:
            return "repeats_prompt"
        if relation.tail == ITEM:
            return self._item(tail, unit, graph)
        if words == normalise(unit.variables["title"]):
            return "repeats_title"
        entity_id, canonical = concept_id(relation.tail, tail)
        return {"entity_id": entity_id, "type": relation.tail, "name": canonical}

    def _item(self, tail: str, unit: Unit, graph: Graph) -> dict[str, Any] | str:
        found = self._catalogue_of(graph).ground(tail)
        if found.entity_id is None:
            return found.reason
        return "self_loop" if found.entity_id == unit.unit_id else {"entity_id": found.entity_id, "type": ITEM}

    def _catalogue_of(self, graph: Graph) -> Catalogue:
        if self._catalogue is None or self._catalogue[0] is not graph:
            names = graph.names()
            self._catalogue = (graph, Catalogue({i: clean(names[i], _MAX_TITLE) for i in graph.ids_of(ITEM)}))
        return self._catalogue[1]

    def _confidence(self, tail: str, unit: Unit) -> float:
        shown = set(normalise(f"{unit.variables['title']} {unit.variables['text']}").split())
        is_in_text = set(normalise(tail).split()) <= shown
        return self.config.confidence_in_text if is_in_text else self.config.confidence_from_memory


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        msg = f"`{name}` is {value}; expected a value from {low} to {high}"
        raise ConfigError(msg)


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


def _reply_type(relations: tuple[str, ...], max_facts: int) -> type[BaseModel]:
    """Return the reply model, narrowed to the relations that were asked for."""
    strict = ConfigDict(extra="forbid")
    relation: Any = Literal[relations]
    tail: Any = Annotated[str, Field(min_length=1, max_length=_MAX_TAIL)]
    fact: Any = create_model("Fact", __config__=strict, relation=(relation, ...), tail=(tail, ...))
    facts: Any = Annotated[list[fact], Field(max_length=max_facts)]
    return create_model("ItemFactsReply", __config__=strict, facts=(facts, ...))


def _by_popularity(graph: Graph) -> list[tuple[str, str, str | None]]:
    """Return (id, name, text) of all items, those with most train interactions first."""
    counts = Counter(graph.interactions_of(TRAIN)["item_id"].to_pylist())
    columns = (graph.entities[c].to_pylist() for c in ("entity_id", "type", "name", "text"))
    items = [(i, name, text) for i, kind, name, text in zip(*columns, strict=True) if kind == ITEM]
    return sorted(items, key=lambda item: (-counts[item[0]], item[0]))
