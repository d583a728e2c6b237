"""`llm_kerec_style`: which things replace or complete one another, asked of pairs of entities under a budget."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.config import JsonDict

from extract.documents import clean
from extract.echo import REPEATS_PROMPT, Echo, labels_of
from extract.ground import CONCEPT_FORM, check_distinct, concept_id, is_placeholder, normalise
from extract.histories import items_by_popularity, train_histories
from extract.method import Facts, Method, Rejected, Unit, check_ranges
from extract.template import load_prompt
from kg.graph import Graph
from kg.similar import Nearest

CONCEPT = "Concept"
HAS_ENTITY = "has_entity"
SUBSTITUTES = "substitutes"
COMPLEMENTS = "complements"
_MAX_TITLE = 120
_MAX_NAME = 32
_STRICT = ConfigDict(extra="forbid")
_AT_LEAST_ONE: JsonDict = {"minItems": 1}
_Kind: Any = Literal["substitute", "second completes first", "first completes second", "both", "none"]
Pair = tuple[str, str]


class LLMKERecStyle(Method, name="llm_kerec_style"):
    r"""Name the entities of items, and ask of pairs of them whether they are substitutes, complements or neither.

    1. Entities: items in order of falling number of train interactions; the reply names up to `n_entities` things that
       each is or is about, of the `dictionary` where one is given. The triple (i, `has_entity`, e).
    2. Pairs: entities in order of the train interactions of their items, cut into head (the first `n_head`), torso (the
       next `n_torso`) and tail. At most `max_pairs` pairs are asked, in this order: head with head, all; head with
       torso, those that most users have together in train; each of the tail with the entity of head and torso whose
       name is most like its own.                                                                                   (1)
    3. Judgement: one question a pair (e, f), with the reason first. The triples (e, `substitutes`, f) and back, or
       (e, `complements`, f) for each direction in which who has e wants f: complements are directed.
    4. Confidence, a rule: 1 for what the model affirms, 0 for every direction of `complements` that it denies. A fact
       of confidence 0 is no edge for a recommender and is kept: a negative sample, which is not asked again.       (2)
    5. The reason stands in the reply, which the source of each triple keeps.

    Rejected, with these reasons: `placeholder`, `duplicate`, `repeats_title` (an item is no entity of itself),
    `not_in_dictionary`, `repeats_prompt` (without a dictionary: words of the question, see `extract.echo.Echo`, or a
    word that the item's text has before a colon).

    Limits: whether a pair is judged right is not checked here; that substitutes are a choice of their own keeps models
    from calling them complements.

    Source:
        "Breaking the Barrier: Utilizing Large Language Models for Industrial Recommendation Systems through an
        Inferential Knowledge Graph" (LLM-KERec), CIKM 2024, arXiv 2402.13750: entities of items, pairs of entities
        chosen by popularity in segments, the model's yes or no with a reason, a graph of complements.

    Deviations:
        Reconstruction from abstract and summaries, hence its name. The paper's entities come from a BERT-CRF over a
        curated dictionary; here the model chooses from one that is given, or names its own. The rule of segments (1),
        three answers in place of two, directions, (2) and the prompts are ours. The weight decision model and the
        dual-view recommender are not part of this method.
    """

    prompt = "llm_kerec_style.v2"
    later_prompts = ("llm_kerec_style_pair.v1",)

    @dataclass(frozen=True)
    class Config:
        """How many items, entities and pairs.

        Attributes:
            max_items: so many items, the most popular first.
            n_entities: at most so many entities an item.
            n_head: so many entities are the head.
            n_torso: so many after them are the torso.
            max_pairs: the budget of step 3, in questions.
            dictionary: the entities that may be named; empty: the model's own words.
        """

        max_items: int = 1000
        n_entities: int = 2
        n_head: int = 20
        n_torso: int = 80
        max_pairs: int = 1000
        dictionary: tuple[str, ...] = ()

        def __post_init__(self) -> None:
            """Check the ranges, and that no entity of the dictionary is empty or given twice."""
            bounds = {"max_items": (1, 10**9), "n_entities": (1, 10), "n_head": (1, 10**4), "n_torso": (0, 10**5)}
            check_ranges(self, {**bounds, "max_pairs": (0, 10**9)})
            check_distinct(self, "dictionary", CONCEPT)

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        allowed: JsonDict = {"enum": list(config.dictionary)} if config.dictionary else CONCEPT_FORM
        name: Any = Annotated[str, Field(min_length=1, max_length=_MAX_NAME, json_schema_extra=allowed)]
        names: Any = Annotated[list[name], Field(max_length=config.n_entities, json_schema_extra=_AT_LEAST_ONE)]
        self._known = {concept_id(CONCEPT, name)[0] for name in config.dictionary}
        self.Reply = create_model("LlmKerecEntities", __config__=_STRICT, entities=(names, ...))
        self._echo = Echo(load_prompt(self.prompt), self.Reply.model_json_schema())

    def units(self, graph: Graph) -> Iterator[Unit]:
        """Yield a question for each of the most popular items that have words to show.

        Args:
            graph: its items, and its train interactions to count.
        """
        for item, name, text in items_by_popularity(graph)[: self.config.max_items]:
            title, about = clean(name, _MAX_TITLE), clean(text)
            if about or title not in ("", item):
                known = {"n_entities": self.config.n_entities, "dictionary": list(self.config.dictionary)}
                yield Unit(item, {"title": title, "text": about, **known})

    def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
        """Turn names into entities of the item.

        Args:
            reply: a `Reply` of this method.
            unit: the question.
            graph: not needed.
        """
        entities: dict[str, dict[str, Any]] = {}
        rejected = []
        labels = labels_of(unit.variables["text"])
        for written in reply.model_dump()["entities"]:
            words = normalise(clean(written, _MAX_NAME))
            entity, name = concept_id(CONCEPT, clean(written, _MAX_NAME))
            fault = "placeholder" if is_placeholder(words) or not name else "duplicate" if entity in entities else ""
            fault = fault or ("repeats_title" if words == normalise(unit.variables["title"]) else "")
            if self._known:
                fault = fault or ("" if entity in self._known else "not_in_dictionary")
            else:
                fault = fault or (REPEATS_PROMPT if words in labels or self._echo.has(words) else "")
            if fault:
                rejected.append(Rejected(fault, written))
            else:
                entities[entity] = {"entity_id": entity, "type": CONCEPT, "name": name}
        triple = {"head": unit.unit_id, "relation": HAS_ENTITY, "confidence": 1.0}
        rows = {"entities": list(entities.values()), "triples": [{**triple, "tail": e} for e in entities]}
        return Facts(rows, rejected)

    def then(self, known: Graph) -> "Method | None":
        """Judge pairs of what was found.

        Args:
            known: not needed.
        """
        return _Judge(self.config) if self.config.max_pairs else None

    def later_steps(self, graph: Graph) -> Sequence[tuple[str, int]]:
        """Bound the step that judges: its budget, or all pairs of so many entities.

        Args:
            graph: not needed.
        """
        n_entities = self.config.max_items * self.config.n_entities
        n_pairs = min(self.config.max_pairs, n_entities * (n_entities - 1) // 2)
        return ((_Judge.name, n_pairs),) if n_pairs else ()


class _Judge(Method):
    """Ask how two entities are related."""

    name = "llm_kerec_style_pair"
    prompt = "llm_kerec_style_pair.v1"
    Reply = create_model(
        "LlmKerecPair",
        __config__=_STRICT,
        reason=(Annotated[str, Field(min_length=1, max_length=160)], ...),
        kind=(_Kind, ...),
    )

    def units(self, graph: Graph) -> Iterator[Unit]:
        names = graph.names()
        for one, other in candidate_pairs(graph, self.config):
            yield Unit(f"{one}|{other}", {"first": clean(names[one]), "second": clean(names[other])})

    def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
        one, other = unit.unit_id.split("|")
        kind = reply.model_dump()["kind"]
        affirmed = {(one, other): ("second completes first", "both"), (other, one): ("first completes second", "both")}
        rows = [
            {"head": head, "relation": COMPLEMENTS, "tail": tail, "confidence": float(kind in kinds)}
            for (head, tail), kinds in affirmed.items()
        ]
        if kind == "substitute":
            rows += [{**row, "relation": SUBSTITUTES, "confidence": 1.0} for row in rows]
        return Facts({"triples": rows})


def candidate_pairs(graph: Graph, config: LLMKERecStyle.Config) -> list[Pair]:
    """Return the pairs to ask about: by segments of popularity, within the budget, none judged before.

    Args:
        graph: train interactions, and `has_entity` of items.
        config: sizes of segments and the budget.

    Returns:
        Pairs of different entities, each sorted; no pair twice.
    """
    holders = _users_of_entities(graph)
    ranked = sorted(holders, key=lambda e: (-len(holders[e]), e))
    head, torso = ranked[: config.n_head], ranked[config.n_head : config.n_head + config.n_torso]
    together = {(a, b): len(holders[a] & holders[b]) for a in head for b in torso}
    mixed = sorted((pair for pair, n in together.items() if n), key=lambda pair: (-together[pair], pair))
    tail = _nearest_names(graph.names(), ranked[len(head) + len(torso) :], head + torso)
    rows = graph.triples.select(["head", "relation", "tail"]).to_pylist()
    judged = {_sorted(r["head"], r["tail"]) for r in rows if r["relation"] == COMPLEMENTS}
    wanted = dict.fromkeys(_sorted(a, b) for a, b in [*combinations(head, 2), *mixed, *tail])
    return [pair for pair in wanted if pair not in judged][: config.max_pairs]


def _users_of_entities(graph: Graph) -> dict[str, set[str]]:
    """Return, for each entity, the users with a train item that has it."""
    users: dict[str, list[str]] = defaultdict(list)
    for user, items in train_histories(graph).items():
        for item in items:
            users[item].append(user)
    holders: dict[str, set[str]] = defaultdict(set)
    for row in graph.triples.select(["head", "relation", "tail"]).to_pylist():
        if row["relation"] == HAS_ENTITY:
            holders[row["tail"]].update(users[row["head"]])
    return dict(holders)


def _nearest_names(names: dict[str, str], tail: Sequence[str], popular: Sequence[str]) -> list[Pair]:
    if not tail or not popular:
        return []
    nearest = Nearest([names[e] for e in popular])
    pairs = []
    for entity in tail:
        alike = nearest.similarities(names[entity])
        if alike.max() > 0:
            pairs.append((entity, popular[int(np.argmax(alike))]))
    return pairs


def _sorted(one: str, other: str) -> Pair:
    return (one, other) if one < other else (other, one)
