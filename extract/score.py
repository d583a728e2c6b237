"""How good extracted facts are, against a gold standard: precision, recall, F1, conformance and hallucination."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Fact = tuple[str, str, str]
"""Head, relation and tail, by their names."""


@dataclass(frozen=True)
class Example:
    """A sentence and the facts that it states.

    Attributes:
        example_id: its name.
        sentence: the text.
        facts: what people say that it states.
    """

    example_id: str
    sentence: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Ontology:
    """What may be said.

    Attributes:
        concepts: names of types; a model that names one instead of a thing does not hallucinate, it is vague.
        relations: names of relations.
    """

    concepts: tuple[str, ...]
    relations: tuple[str, ...]


@dataclass(frozen=True)
class Quality:
    """Precision, recall and their harmonic mean, each in [0, 1]."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class RelationScore:
    """What became of one relation, over all sentences.

    Attributes:
        gold: facts of the gold standard.
        said: facts that were extracted.
        right: facts that are in both.
        quality: from these counts.
    """

    gold: int
    said: int
    right: int
    quality: Quality


@dataclass(frozen=True)
class Score:
    """How good the facts of all sentences are.

    Attributes:
        n_examples: sentences.
        n_facts: facts that were extracted.
        published: means over sentences by the rule of Text2KGBench, which judges only facts whose relation the
            gold standard has for that sentence.
        strict: from the counts of all facts, nothing left out.
        conformance: mean over sentences of the share of facts whose relation is in the ontology.
        head_hallucination: mean share of facts whose head is neither in the sentence nor a concept.
        relation_hallucination: 1 - conformance.
        tail_hallucination: as for heads.
        relations: by relation, those of the gold standard and of the extraction.
    """

    n_examples: int
    n_facts: int
    published: Quality
    strict: Quality
    conformance: float
    head_hallucination: float
    relation_hallucination: float
    tail_hallucination: float
    relations: Mapping[str, RelationScore]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def score(examples: Sequence[Example], said: Mapping[str, Sequence[Fact]], ontology: Ontology) -> Score:
    """Compare extracted facts with a gold standard.

    Two facts are equal if their names agree without case, white space and underscores. With G(s) the gold facts of a
    sentence, E(s) the extracted ones and E'(s) those of E(s) whose relation occurs in G(s):

        P(s) = |E'(s) n G(s)| / |E'(s)|,  R(s) = |E'(s) n G(s)| / |G(s)|,  F1(s) = 2 P R / (P + R)                   (1)

    each 0 where undefined, and the published values are means over all sentences. The strict ones sum |E n G|, |E| and
    |G| over all sentences.

    Args:
        examples: the gold standard.
        said: facts by id of a sentence; a sentence that is missing has none.
        ontology: concepts and relations that may be used.

    Source:
        Mihindukulasooriya et al., "Text2KGBench", ISWC 2023, arXiv 2308.02357, section 4; data at
        github.com/cenguix/Text2KGBench@50a3d25.

    Deviations:
        Names are not stemmed, so shares of hallucination differ a little; the strict values are ours.
    """
    rows = [_Judged.of(example, said.get(example.example_id, ()), ontology) for example in examples]
    n = max(len(rows), 1)
    means = [sum(getattr(r.published, name) for r in rows) / n for name in ("precision", "recall", "f1")]
    conformance = sum(r.conformance for r in rows) / n
    counts = [Counter[str]() for _ in range(3)]
    for row in rows:
        for counter, facts in zip(counts, (row.gold, row.said, row.gold & row.said), strict=True):
            counter.update(relation for _, relation, _ in facts)
    gold, extracted, right = counts
    return Score(
        n_examples=len(rows),
        n_facts=sum(len(r.said) for r in rows),
        published=Quality(*means),
        strict=_quality(right.total(), extracted.total(), gold.total()),
        conformance=conformance,
        head_hallucination=sum(r.head_hallucination for r in rows) / n,
        relation_hallucination=1.0 - conformance,
        tail_hallucination=sum(r.tail_hallucination for r in rows) / n,
        relations={
            name: RelationScore(
                gold[name], extracted[name], right[name], _quality(right[name], extracted[name], gold[name])
            )
            for name in sorted(gold | extracted)
        },
    )


@dataclass(frozen=True)
class _Judged:
    """One sentence."""

    gold: frozenset[Fact]
    said: frozenset[Fact]
    published: Quality
    conformance: float
    head_hallucination: float
    tail_hallucination: float

    @classmethod
    def of(cls, example: Example, facts: Iterable[Fact], ontology: Ontology) -> "_Judged":
        gold, said = (frozenset(map(_comparable, some)) for some in (example.facts, facts))
        judged = {fact for fact in said if fact[1] in {relation for _, relation, _ in gold}}
        allowed = {relation_name(relation) for relation in ontology.relations}
        text, concepts = _squeezed(example.sentence), {_squeezed(c) for c in ontology.concepts}
        return cls(
            gold,
            said,
            _quality(len(judged & gold), len(judged), len(gold)),
            sum(relation in allowed for _, relation, _ in said) / len(said) if said else 1.0,
            _share(head not in text and head not in concepts for head, _, _ in said),
            _share(tail not in text and tail not in concepts for _, _, tail in said),
        )


def relation_name(relation: str) -> str:
    """Return a relation's name in words: lower case, blanks for underscores, no backslash of Markdown."""
    return " ".join(relation.replace("\\", "").replace("_", " ").casefold().split())


def _comparable(fact: Fact) -> Fact:
    head, relation, tail = fact
    return _squeezed(head), relation_name(relation), _squeezed(tail)


def _squeezed(name: str) -> str:
    return re.sub(r"[\s_]+", "", name.casefold())


def _quality(right: int, said: int, gold: int) -> Quality:
    precision, recall = (right / n if n else 0.0 for n in (said, gold))
    return Quality(precision, recall, 2 * right / (said + gold) if right else 0.0)


def _share(values: Iterable[bool]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0
