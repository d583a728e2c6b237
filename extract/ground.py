"""From words to ids: names that a model wrote -> entities of the catalogue, or new concepts with deterministic ids."""

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic.config import JsonDict

from kg.errors import ConfigError
from kg.similar import Encoder, Nearest

AMBIGUOUS = "ambiguous"
NOT_IN_CATALOGUE = "not_in_catalogue"

_FIRST = r"[^\s!-@\[-`{-~]"
_NEXT = r"[^\s!-/:-@\[-`{-~]{0,14}"

_MAX_SLUG = 48
_WORD = re.compile(r"[^\W_]+")
_CONCEPT_WORD = re.compile(r"[^\W_]+[+#]*")  # C, C++ and C# are three concepts
_SLUG = re.compile(r"[a-z0-9-]+")
_YEAR = re.compile(r"\s*[(\[]((?:18|19|20)\d\d)[)\]]\s*$")
_ARTICLES = "the|a|an|il|lo|la|le|les|el|los|las|der|die|das|un|une|l'"
_INVERTED = re.compile(rf"^(?P<rest>.+),\s*(?P<article>{_ARTICLES})(?=$|\s*[(\[])", re.IGNORECASE)
_PLACEHOLDERS = frozenset(
    (
        *("unknown", "none", "null", "n a", "na", "nil", "not known", "not applicable", "not specified", "various"),
        *("not available", "no information", "unspecified", "misc", "example", "placeholder", "string", "text"),
        *("value", "name", "fact", "facts", "relation", "relations", "item", "the item", "items", "title", "film"),
        *("the film", "movie", "angle", "angles", "category", "categories", "genre", "genres", "year", "years"),
        *("the", "a", "an"),
    )
)
_APOSTROPHES = str.maketrans("", "", "'’‘`´")  # noqa: RUF001


def form_of(n_words: int) -> JsonDict:
    """Return the JSON schema of a short name: a letter first, up to so many words, no punctuation.

    It keeps small models from rambling; methods put it into the schema only, so that another model's slip costs one
    name and not the whole reply.
    """
    word = rf"{_NEXT}(['-]{_NEXT})?"
    return {"maxLength": 28, "pattern": rf"^{_FIRST}{word}( {word}){{0,{n_words - 1}}}$"}


CONCEPT_FORM = form_of(n_words=4)


def normalise(name: str) -> str:
    """Bring a name to the form in which names are compared: words in lower case, a trailing year dropped.

    Example:
        >>> normalise("Usual Suspects, The (1995)"), normalise("THE USUAL  SUSPECTS")
        ('the usual suspects', 'the usual suspects')
    """
    text = unicodedata.normalize("NFKC", name).casefold().strip()
    text = _YEAR.sub("", text)
    text = _INVERTED.sub(r"\g<article> \g<rest>", text)
    words = _WORD.findall(text.translate(_APOSTROPHES).replace("&", " and "))
    return " ".join(words) or text


def concept_id(entity_type: str, name: str) -> tuple[str, str]:
    """Return the id and the canonical name of a concept, the same for every spelling of it.

    Concepts (moods, themes, interests) have no catalogue: the id is the type in lower case and a slug of the
    normalised name, or its hash where the slug would be long or hold more than ASCII letters and digits. Equal
    ids imply equal names.

    Example:
        >>> concept_id("Mood", " Dark ")
        ('mood:dark', 'dark')
    """
    canonical = " ".join(_CONCEPT_WORD.findall(unicodedata.normalize("NFKC", name).casefold().translate(_APOSTROPHES)))
    slug = canonical.replace(" ", "-")
    if not _SLUG.fullmatch(slug) or len(slug) > _MAX_SLUG:
        slug = hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{entity_type.casefold()}:{slug}", canonical


def check_distinct(config: Any, name: str, entity_type: str) -> None:
    """Check that a list of names in a configuration gives each concept once.

    Args:
        config: holds the list as an attribute.
        name: of the attribute.
        entity_type: of the concepts.

    Raises:
        ConfigError: naming those that are empty or equal.
    """
    given = getattr(config, name)
    names = [concept_id(entity_type, one)[1] for one in given]
    wrong = [one for one, canonical in zip(given, names, strict=True) if not canonical or names.count(canonical) > 1]
    if wrong:
        msg = f"`{name}` holds {wrong}, which are empty or equal; give each one name"
        raise ConfigError(msg)


def is_placeholder(words: str) -> bool:
    """Say whether a normalised name names nothing: no letter or digit, or a word that only fills a place.

    Example:
        >>> is_placeholder(normalise("N/A")), is_placeholder("dark")
        (True, False)
    """
    return words in _PLACEHOLDERS or not any(c.isalnum() for c in words)


@dataclass(frozen=True)
class Grounded:
    """What became of a name.

    Attributes:
        entity_id: the entity it names; None where it was rejected.
        reason: why it was rejected: `ambiguous` or `not_in_catalogue`.
    """

    entity_id: str | None
    reason: str = ""


class Catalogue:
    """The names of known entities.

    Args:
        names: entity id -> name.
        min_similarity: a name that is none of these may mean the one that it is most like, from this cosine on; 1
            rejects it.
        encode: a sentence encoder that says how alike names are; None compares letter trigrams.
    """

    def __init__(self, names: Mapping[str, str], min_similarity: float = 1.0, encode: Encoder | None = None) -> None:
        exact, normalised = defaultdict(list), defaultdict(list)
        for entity_id, name in sorted(names.items()):
            exact[name].append(entity_id)
            normalised[normalise(name)].append((entity_id, year_of(name)))
        self._exact, self._normalised = dict(exact), dict(normalised)
        self._min_similarity = min_similarity
        self._words = list(self._normalised)
        self._nearest = Nearest(self._words, encode) if min_similarity < 1.0 and names else None

    def ground(self, name: str) -> Grounded:
        """Find the one entity that a name means: by the exact name, else by the normalised one, else by likeness.

        A year in the name rejects entities whose name bears another year; where several entities remain, nothing is
        guessed.

        Args:
            name: as the model wrote it.

        Returns:
            The entity, or the reason of the rejection.
        """
        ids = self._exact.get(name) or self._by_words(name, normalise(name)) or self._by_likeness(name)
        if len(ids) == 1:
            return Grounded(ids[0])
        return Grounded(None, AMBIGUOUS if ids else NOT_IN_CATALOGUE)

    def _by_likeness(self, name: str) -> list[str]:
        words = normalise(name)
        if self._nearest is None or is_placeholder(words):
            return []
        alike = self._nearest.similarities(words)
        best = alike.max()
        if best < self._min_similarity:
            return []
        return [i for place in np.flatnonzero(alike == best) for i in self._by_words(name, self._words[place])]

    def _by_words(self, name: str, words: str) -> list[str]:
        year = year_of(name)
        found = self._normalised.get(words, [])
        fitting = [(entity_id, own) for entity_id, own in found if year is None or own in (None, year)]
        certain = [entity_id for entity_id, own in fitting if year is not None and own == year]
        return certain or [entity_id for entity_id, _ in fitting]


def year_of(name: str) -> str | None:
    """Return the year in brackets at the end of a name, if there is one."""
    match = _YEAR.search(name)
    return match[1] if match else None
