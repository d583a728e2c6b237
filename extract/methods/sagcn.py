"""`sagcn`: which aspects of an item a review is about, as one user-item graph for each aspect."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.config import JsonDict

from extract.documents import clean
from extract.echo import REPEATS_PROMPT, Echo
from extract.ground import CONCEPT_FORM, check_distinct, concept_id, form_of, is_placeholder, normalise
from extract.method import Facts, Method, Rejected, Unit, check_ranges
from extract.reviews import Review, ReviewFile
from extract.template import load_prompt
from kg.graph import Graph

ASPECT = "Aspect"
_PREFIX = "aspect/"
_FOUND = "mentioned_aspect"
_MERGED = "same_aspect_as"
_MAX_NAME = 32
_MAX_FOUND = 6
_STRICT = ConfigDict(extra="forbid")
_Name: Any = Annotated[str, Field(min_length=1, max_length=_MAX_NAME, json_schema_extra=CONCEPT_FORM)]
_AT_LEAST_ONE: JsonDict = {"minItems": 1}  # small models rather say nothing; nothing is still a valid reply
_Short: Any = Annotated[str, Field(min_length=1, max_length=_MAX_NAME, json_schema_extra=form_of(n_words=2))]
_Names: Any = Annotated[list[_Short], Field(max_length=_MAX_FOUND, json_schema_extra=_AT_LEAST_ONE)]
_NONE = "none"  # as the prompt of the labels says it


class _Reviews:
    """The train reviews, read and cleaned once for each graph."""

    def __init__(self, config: "SAGCN.Config") -> None:
        self._file = ReviewFile(config.reviews, config.user, config.item, config.text)
        self._read: tuple[Graph, list[Review], list[Rejected]] | None = None

    def of(self, graph: Graph) -> list[Review]:
        return self._of(graph)[1]

    def rejected(self, graph: Graph) -> list[Rejected]:
        return self._of(graph)[2]

    def _of(self, graph: Graph) -> tuple[Graph, list[Review], list[Rejected]]:
        if self._read is None or self._read[0] is not graph:
            self._read = (graph, *self._file.of_train(graph))
        return self._read


class SAGCN(Method, name="sagcn"):
    r"""Find the aspects that reviews speak of, merge them to a short list, and label each review with them.

    1. Discover: for the `n_items` items with most train reviews, a question with up to `n_reviews` of them (the longest
       first); the reply names aspects.
    2. Merge: one question with the `n_names` most frequent names; the reply puts names of one aspect together and
       leaves out what is no aspect (a reply without any group merges nothing). The `n_aspects` aspects that most items
       have are the list A. With `aspects` given, steps 1 and 2 are left out.
    3. Label: one question for each train review; the reply names the aspects of A that the review speaks of, or says
       that it speaks of none of them.
    4. Graph: for each aspect a of A a bipartite graph of its own, the triples (u, `aspect/a`, i) where the train review
       of i by u speaks of a; unweighted (confidence 1).                                                            (1)

    Rejected, with these reasons: `placeholder`, `repeats_prompt` (words of the question, see `extract.echo.Echo`),
    `duplicate`, `unknown_number` (no name has it), `left_out` (by the merge), `unknown_aspect` (not in A),
    `rare_aspect` (found, but not among the `n_names` or the `n_aspects`); of the rows of the file `unknown_user`,
    `unknown_item`, `not_in_train`, `empty` (no word). A file without any row of a train interaction is refused.

    Limits: a user and item without a review, or with one that names nothing, have no edge in any aspect graph.

    Source:
        "Understanding Before Recommendation: Semantic Aspect-Aware Review Exploitation via Large Language Models", TOIS
        2025, arXiv 2312.16275: the chain of two prompts (aspects of reviews, merged to a small list; labels for each
        review with the list in the prompt) and one unweighted graph for each aspect; code LLMSAGCN@a1d0c53, whose
        aspect lists can be given as `aspects`.

    Deviations:
        Reconstruction: the paper's wording was not at hand. Reviews are sampled by item. The merge is a question of its
        own. Names of aspects have no commas or hyphens, which break the published command line. Only train reviews are
        read. The recommender over the graphs is not part of this method.
    """

    prompt = "sagcn.v1"
    later_prompts = ("sagcn_merge.v1", "sagcn_label.v2")

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Where the reviews are, how many are read.

        Attributes:
            reviews: a CSV or Parquet file with a row a review.
            user: its column of users.
            item: its column of items.
            text: its column of texts.
            aspects: the list A, if it is known; empty: found by steps 1 and 2.
            n_items: so many items are looked at in step 1.
            n_reviews: so many reviews of each.
            n_names: so many names are merged in step 2.
            n_aspects: so many aspects in the end.
            max_reviews: so many reviews are labelled, in the order of users and items.
        """

        reviews: Path
        user: str = "user_id"
        item: str = "item_id"
        text: str = "text"
        aspects: tuple[str, ...] = ()
        n_items: int = 30
        n_reviews: int = 5
        n_names: int = 40
        n_aspects: int = 8
        max_reviews: int = 100_000

        def __post_init__(self) -> None:
            """Check the ranges, and that no aspect is empty or given twice."""
            bounds = {"n_items": (1, 10**6), "n_reviews": (1, 20), "n_names": (1, 200), "n_aspects": (1, 30)}
            check_ranges(self, {**bounds, "max_reviews": (1, 10**9)})
            check_distinct(self, "aspects", ASPECT)

    config: Config
    Reply = create_model("SagcnAspects", __config__=_STRICT, aspects=(_Names, ...))

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._reviews = _Reviews(config)
        self._echo = Echo(load_prompt(self.prompt), self.Reply.model_json_schema())

    def units(self, graph: Graph) -> Iterator[Unit]:
        """Yield a question for each of the items with most reviews; none where the aspects are given.

        Args:
            graph: its train interactions.
        """
        of_item: dict[str, list[Review]] = defaultdict(list)
        for review in () if self.config.aspects else self._reviews.of(graph):
            of_item[review.item].append(review)
        for item in sorted(of_item, key=lambda i: (-len(of_item[i]), i))[: self.config.n_items]:
            some = sorted(of_item[item], key=lambda r: (-len(r.text), r.user))[: self.config.n_reviews]
            texts = [review.text for review in some]
            yield Unit(item, {"reviews": texts, "max_found": _MAX_FOUND}, tuple((r.user, r.item) for r in some))

    def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
        """Turn names into aspects of the item.

        Args:
            reply: a `Reply` of this method.
            unit: the question.
            graph: not needed.
        """
        found, rejected = _named(reply.model_dump()["aspects"], self._echo)
        entities = [{"entity_id": i, "type": ASPECT, "name": name} for i, name in found.items()]
        triple = {"head": unit.unit_id, "relation": _FOUND, "confidence": 1.0}
        return Facts({"entities": entities, "triples": [{**triple, "tail": i} for i in found]}, rejected)

    def then(self, known: Graph) -> Method:
        """Merge what was found, or label at once where the aspects are given.

        Args:
            known: not needed.
        """
        return _Label(self.config, list(self.config.aspects)) if self.config.aspects else _Merge(self.config)

    def later_steps(self, graph: Graph) -> Sequence[tuple[str, int]]:
        """Bound the steps: one merge, and a label for each review that is read.

        Args:
            graph: its train interactions.
        """
        merge = () if self.config.aspects else ((_Merge.name, 1),)
        return (*merge, (_Label.name, min(len(self._reviews.of(graph)), self.config.max_reviews)))

    def conclude(self, found: Graph, known: Graph) -> tuple[Graph, Sequence[Rejected]]:
        """Keep the aspect graphs; how the aspects were found stays in the ledger.

        Args:
            found: what all steps found.
            known: the data set, whose train reviews are those that count.
        """
        c = self.config
        rare = [
            *_ranked(found)[c.n_aspects :],
            *(_ranked(found, is_merged=False)[c.n_names :] if _merges(found) else ()),
        ]
        triples = found.triples.filter(pc.starts_with(found.triples["relation"], _PREFIX))
        used = pc.unique(triples["source"])
        sources = found.sources.filter(pc.is_in(found.sources["source"], value_set=used))
        entities = found.entities.filter(pc.not_equal(found.entities["type"], ASPECT))
        ends = pc.is_in(entities["entity_id"], value_set=_ends(triples))
        graph = Graph.from_tables(triples=triples, sources=sources, entities=entities.filter(ends))
        return graph, [*self._reviews.rejected(known), *(Rejected("rare_aspect", name) for name in rare)]


class _Merge(Method):
    """Ask which names mean one aspect."""

    name = "sagcn_merge"
    prompt = "sagcn_merge.v1"

    def __init__(self, config: SAGCN.Config) -> None:
        super().__init__(config)
        number: Any = Annotated[int, Field(json_schema_extra={"minimum": 1, "maximum": config.n_names})]
        numbers: Any = Annotated[list[number], Field(max_length=config.n_names)]
        group: Any = create_model("Group", __config__=_STRICT, aspect=(_Name, ...), numbers=(numbers, ...))
        at_most: JsonDict = {"maxItems": config.n_aspects}
        groups: Any = Annotated[list[group], Field(max_length=config.n_names, json_schema_extra=at_most)]
        self.Reply = create_model("SagcnMerge", __config__=_STRICT, groups=(groups, ...))
        self._echo = Echo(load_prompt(self.prompt), self.Reply.model_json_schema())

    def units(self, graph: Graph) -> Iterator[Unit]:
        names = _ranked(graph)[: self.config.n_names]
        if names:
            yield Unit("aspects", {"names": names, "n_aspects": self.config.n_aspects})

    def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
        names, taken, rejected = list(unit.variables["names"]), set[int](), list[Rejected]()
        entities, triples = [], []
        for group in reply.model_dump()["groups"]:
            named, refused = _named([group["aspect"]], self._echo)
            rejected += refused
            for number in group["numbers"] if named else []:
                if not 1 <= number <= len(names) or number in taken:
                    reason = "duplicate" if number in taken else "unknown_number"
                    rejected.append(Rejected(reason, f"{group['aspect']}: {number}"))
                    continue
                taken.add(number)
                ((tail, name),) = named.items()
                head = concept_id(ASPECT, names[number - 1])[0]
                entities.append({"entity_id": tail, "type": ASPECT, "name": name})
                triples.append({"head": head, "relation": _MERGED, "tail": tail, "confidence": 1.0})
        if taken:
            rejected += [Rejected("left_out", name) for n, name in enumerate(names, 1) if n not in taken]
        return Facts({"entities": entities, "triples": triples}, rejected)

    def then(self, known: Graph) -> Method | None:
        aspects = _ranked(known)[: self.config.n_aspects]
        return _Label(self.config, aspects) if aspects else None


class _Label(Method):
    """Ask which aspects of the list a review is about."""

    name = "sagcn_label"
    prompt = "sagcn_label.v2"

    def __init__(self, config: SAGCN.Config, aspects: list[str]) -> None:
        super().__init__(config)
        self._reviews = _Reviews(config)
        self._aspects = {concept_id(ASPECT, aspect)[1]: aspect for aspect in aspects}
        allowed: JsonDict = {"enum": [*self._aspects, _NONE]}
        label: Any = Annotated[str, Field(max_length=200, json_schema_extra=allowed)]
        # Small models rather say nothing, so "none" has to be said; a label said twice costs that label, not the reply.
        bounds: JsonDict = {"minItems": 1, "maxItems": len(aspects)}
        labels: Any = Annotated[list[label], Field(max_length=100, json_schema_extra=bounds)]
        self.Reply = create_model("SagcnLabels", __config__=_STRICT, aspects=(labels, ...))

    def units(self, graph: Graph) -> Iterator[Unit]:
        for review in self._reviews.of(graph)[: self.config.max_reviews]:
            variables = {"review": review.text, "aspects": list(self._aspects)}
            yield Unit(f"{review.user}|{review.item}", variables, ((review.user, review.item),))

    def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
        ((user, item),) = unit.shown
        found, rejected = _named([a for a in reply.model_dump()["aspects"] if a != _NONE])
        rejected += [Rejected("unknown_aspect", name) for name in found.values() if name not in self._aspects]
        relations = [relation_of(name) for name in found.values() if name in self._aspects]
        triple = {"head": user, "tail": item, "confidence": 1.0}
        return Facts({"triples": [{**triple, "relation": relation} for relation in relations]}, rejected)


def relation_of(aspect: str) -> str:
    """Return the relation of an aspect's graph."""
    return _PREFIX + aspect.replace(" ", "_")


def _named(given: Sequence[str], echo: Echo | None = None) -> tuple[dict[str, str], list[Rejected]]:
    """Return id and name of each aspect that names something, once."""
    found: dict[str, str] = {}
    rejected = []
    for written in given:
        entity, name = concept_id(ASPECT, clean(written, _MAX_NAME))
        is_empty = not name or (is_placeholder(normalise(name)) and name != "value")  # value for money is an aspect
        fault = "placeholder" if is_empty else "duplicate" if entity in found else ""
        fault = fault or (REPEATS_PROMPT if echo and echo.has(normalise(name)) else "")
        if fault:
            rejected.append(Rejected(fault, written))
        else:
            found[entity] = name
    return found, rejected


def _ranked(graph: Graph, *, is_merged: bool = True) -> list[str]:
    """Return the names of aspects, merged as far as that was asked, those of most items first."""
    names = dict(zip(graph.entities["entity_id"].to_pylist(), graph.entities["name"].to_pylist(), strict=True))
    merged = _merges(graph) if is_merged else {}
    items: dict[str, set[str]] = defaultdict(set)
    for row in graph.triples.select(["head", "relation", "tail"]).to_pylist():
        if row["relation"] == _FOUND and (not merged or row["tail"] in merged):
            items[merged.get(row["tail"], row["tail"])].add(row["head"])
    counts = Counter({aspect: len(some) for aspect, some in items.items()})
    return [names[aspect] for aspect in sorted(counts, key=lambda a: (-counts[a], a))]


def _merges(graph: Graph) -> dict[str, str]:
    """Return which aspect goes into which."""
    rows = graph.triples.filter(pc.equal(graph.triples["relation"], _MERGED))
    return dict(zip(rows["head"].to_pylist(), rows["tail"].to_pylist(), strict=True))


def _ends(triples: Any) -> Any:
    return pc.unique(pa.chunked_array([c for name in ("head", "tail") for c in triples[name].chunks], pa.string()))
