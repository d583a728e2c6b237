"""What a model says back: examples and labels of the question, which are no answer."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from extract.ground import normalise
from extract.template import Prompt

REPEATS_PROMPT = "repeats_prompt"
_MIN_JOINED = 12
_TAG = re.compile(r"\{[{%].*?[%}]\}|<[^>]*>", re.DOTALL)
_LISTED = re.compile(r"\b(?:such as|not (?:its|the)) ([^.;:]+)")  # examples, and what is not asked for
_NOUN = re.compile(r"\b(?:up to|at most) \{\{[^}]*\}\} (\w+)", re.IGNORECASE)
_LABEL = re.compile(r"(?:^|[.;]\s)\s*(\w+):")
_AROUND = re.compile(r"^(?:the|a|an) | ?\d+$")


class Echo:
    """Tells answers from words of the question.

    A label is a word that the question uses for something: an example of it ("such as genre"), what it asks for or
    excludes ("up to 3 aspects", "not its brand"), a name in the form of the reply. A label alone is no answer, perhaps
    with a number, an article or in the plural. Other single words of the question may well be answers; two and more in
    its order are not.

    Args:
        prompt: of the question; what its variables say is no part of it.
        schema: of the reply.
        labels: further ones.
    """

    def __init__(self, prompt: Prompt, schema: Mapping[str, Any], labels: Iterable[str] = ()) -> None:
        texts = _TAG.split(prompt.template)
        listed = [word for text in texts for some in _LISTED.findall(text) for word in re.split(r",|\bor\b", some)]
        self._labels = {_plain(word) for word in (*listed, *_NOUN.findall(prompt.template), *_fields(schema), *labels)}
        self._texts = [normalise(text) for text in texts]

    def has(self, words: str) -> bool:
        """Say whether a normalised name is a label or a phrase of the question."""
        return _plain(words) in self._labels or is_phrase(words, self._texts)


def is_phrase(words: str, texts: Iterable[str]) -> bool:
    """Say whether a normalised name is a normalised text, or two words or more of it; long ones may lack blanks.

    Example:
        >>> is_phrase("story is about", ["what the story is about"]), is_phrase("story", ["what the story is about"])
        (True, False)
    """
    joined = words.replace(" ", "")
    is_long = len(joined) >= _MIN_JOINED
    return any(
        words == text or (" " in words and f" {words} " in f" {text} ") or (is_long and joined in text.replace(" ", ""))
        for text in texts
    )


def labels_of(text: str) -> set[str]:
    """Return the words that stand in a text before a colon, normalised.

    Example:
        >>> sorted(labels_of("Heat. year: 1995. genres: Crime"))
        ['genres', 'year']
    """
    return {normalise(label) for label in _LABEL.findall(text)}


def _plain(words: str) -> str:
    """Return a name without article, number and the ending of the plural."""
    bare = _AROUND.sub("", normalise(words))
    return re.sub("ie$", "y", bare.removesuffix("s"))


def _fields(schema: Any) -> Iterator[str]:
    """Yield the names of all fields of a JSON schema."""
    for key, value in schema.items() if isinstance(schema, Mapping) else ():
        yield from value if key == "properties" else ()
        yield from _fields(value)
