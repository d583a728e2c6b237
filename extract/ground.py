"""From words to ids: names that a model wrote -> entities of the catalogue, or new concepts with deterministic ids."""

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from pydantic.config import JsonDict

from kg.errors import ConfigError
from kg.similar import Encoder, Nearest, numbers_of

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
_LEADING = re.compile(rf"^(?!die\b)(?:{_ARTICLES})\s+(?=\S)")  # the German `die` is an English word, too
_BRACKETED = re.compile(r"\s*[(\[]([^)\]]*)[)\]]")
_ALIAS = re.compile(r"^(?:a\.?k\.?a\.?|aka)\s+", re.IGNORECASE)
_INVERTED = re.compile(rf"^(?P<rest>.+),\s*(?P<article>{_ARTICLES})(?=$|\s*[(\[])", re.IGNORECASE)
_PLACEHOLDERS = frozenset(
    (
        *("unknown", "none", "null", "n a", "na", "nil", "not known", "not applicable", "not specified", "various"),
        *("not available", "no information", "unspecified", "misc", "example", "placeholder", "string", "text"),
        *("value", "name", "fact", "facts", "relation", "relations", "item", "the item", "items", "title", "titles"),
        "description",
        *("film", "the film", "films", "the films", "movie", "the movie", "movies", "the movies", "themovies"),
        *("angle", "angles", "category", "categories", "genre", "genres", "year", "years", "the", "a", "an"),
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


@dataclass(frozen=True)
class Likeness:
    """From when on a name that no entity bears means the entity with the nearest one; 1 everywhere: never.

    Names with different numbers in them are never alike: sequels are films of their own.

    Attributes:
        min_similarity: cosine of letter trigrams.
        min_meaning: cosine of an encoder's vectors, asked where letters are not enough.
        encode: a sentence encoder; needed where `min_meaning` is below 1.

    Raises:
        ConfigError: if an encoder is needed and there is none.
    """

    min_similarity: float = 1.0
    min_meaning: float = 1.0
    encode: Encoder | None = None

    def __post_init__(self) -> None:
        """Demand an encoder where one is to be asked."""
        if self.min_meaning < 1.0 and self.encode is None:
            msg = f"min_meaning is {self.min_meaning}, but there is no encoder; give `encode`, or 1 to ask none"
            raise ConfigError(msg)


_Entry = tuple[str, str | None]
"""An entity and the year in its name."""


class Catalogue:
    """The names of known entities.

    Args:
        names: entity id -> name.
        likeness: what becomes of a name that is none of these; by default it is rejected.
    """

    def __init__(self, names: Mapping[str, str], likeness: Likeness | None = None) -> None:
        self._exact: dict[str, list[str]] = defaultdict(list)
        self._normalised: dict[str, list[_Entry]] = defaultdict(list)
        self._bare: dict[str, list[_Entry]] = defaultdict(list)
        self._parts: dict[str, list[_Entry]] = defaultdict(list)
        for entity_id, name in sorted(names.items()):
            words, entry = normalise(name), (entity_id, year_of(name))
            self._exact[name].append(entity_id)
            self._normalised[words].append(entry)
            self._bare[_bare(words)].append(entry)
            for part in _parts(name):
                self._parts[part].append(entry)
        self._words = list(self._normalised)
        self._likeness = likeness or Likeness()

    def ground(self, name: str) -> Grounded:
        """Find the one entity that a name means: by the exact name, else the normalised one, else parts, else likeness.

        A name may lack its article, or what stands in brackets, or be the other title in brackets. A year in the name
        rejects entities whose name bears another year; where several entities remain, nothing is guessed.

        Args:
            name: as the model wrote it.

        Returns:
            The entity, or the reason of the rejection.
        """
        words, year = normalise(name), year_of(name)
        ids = self._exact.get(name) or _fitting(self._normalised.get(words, ()), year)
        if not ids and not is_placeholder(words):
            ids = _fitting(self._with_part(name, words), year) or self._by_likeness(words, year)
        if len(ids) == 1:
            return Grounded(ids[0])
        return Grounded(None, AMBIGUOUS if ids else NOT_IN_CATALOGUE)

    def _with_part(self, name: str, words: str) -> Iterator[_Entry]:
        """Yield the entities of whose names this is a part, or whose names are a part of this one."""
        bare = _bare(words)
        yield from self._bare.get(bare, ())
        yield from self._parts.get(bare, ())
        for part in _parts(name):
            yield from self._bare.get(part, ())

    def _by_likeness(self, words: str, year: str | None) -> list[str]:
        return self._nearest(words, year, self._likeness.min_similarity, is_by_letters=True) or self._nearest(
            words, year, self._likeness.min_meaning, is_by_letters=False
        )

    def _nearest(self, words: str, year: str | None, least: float, *, is_by_letters: bool) -> list[str]:
        if least == 1.0 or not self._words:
            return []
        alike = (self._letters if is_by_letters else self._meanings).similarities(words)
        best = alike.max()
        near = [self._words[place] for place in np.flatnonzero(alike == best) if best >= least]
        same = [entry for one in near if numbers_of(one) == numbers_of(words) for entry in self._normalised[one]]
        return _fitting(same, year)

    @cached_property
    def _letters(self) -> Nearest:
        return Nearest(self._words)

    @cached_property
    def _meanings(self) -> Nearest:
        return Nearest(self._words, self._likeness.encode)


def _fitting(found: Iterable[_Entry], year: str | None) -> list[str]:
    """Return the entities whose year is the given one, else those of which none contradicts it."""
    fitting = [(entity_id, own) for entity_id, own in found if year is None or own in (None, year)]
    certain = [entity_id for entity_id, own in fitting if year is not None and own == year]
    return list(dict.fromkeys(certain or [entity_id for entity_id, _ in fitting]))


def _bare(words: str) -> str:
    return _LEADING.sub("", words)


def _parts(name: str) -> set[str]:
    """Return a name without its brackets, and the other titles in them, each without its article.

    One word in brackets is rather a property (`Live`, `Medium`) than a title, unless it says that it is one.
    """
    text = _YEAR.sub("", name)
    others = [one.strip() for one in _BRACKETED.findall(text)]
    titles = [_ALIAS.sub("", one) for one in others if _ALIAS.match(one) or " " in one]
    found = {_bare(normalise(one)) for one in (_BRACKETED.sub("", text), *titles)} if others else set()
    return {one for one in found if not is_placeholder(one)}


def forms_of(name: str) -> set[str]:
    """Return what a name is known as: normalised, without its article, without brackets, the titles in them.

    Example:
        >>> sorted(forms_of("Hate (La Haine d'Or) (1995)"))
        ['haine dor', 'hate', 'hate la haine dor']
    """
    return ({_bare(normalise(name))} | _parts(name)) - {""}


def year_of(name: str) -> str | None:
    """Return the year in brackets at the end of a name, if there is one."""
    match = _YEAR.search(name)
    return match[1] if match else None
