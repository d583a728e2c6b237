"""`persona4rec`: aspects of reviews by gpt-4o-mini, as the rows of SAGCN."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from extract.documents import clean
from extract.ground import concept_id, is_placeholder, normalise
from extract.method import Facts, Rejected, Unit
from extract.methods.sagcn import ASPECT, relation_of
from extract.recorded import Recording, read_text
from kg.errors import FileFormatError
from kg.graph import Graph
from kg.terms import ITEM, TRAIN, UNSPLIT, USER

_N_ASPECTS = 8
_MAX_WORDS = 3
_SENTIMENT = re.compile(
    r"\s*(\(\s*(?:positive|negative|mixed|neutral)[^)]*\)|[:-]\s*(?:positive|negative|mixed)\w*)\s*"
)


class _Aspects(BaseModel):
    """The part of an answer that names aspects; the other three elements are no judgement of the item."""

    model_config = ConfigDict(extra="ignore")
    quality_criteria: str | None = None


class _Review(BaseModel):
    user_id: str
    item_id: str
    rating: float
    timestamp: datetime
    extracted_aspects: dict[str, str | None]


class _Book(BaseModel):
    item_id: str
    item_title: str
    item_description: str
    aspects: list[_Review]


class Persona4Rec(Recording, name="persona4rec"):
    """Read what users valued or criticised in an item, and keep it as one user-item graph for each aspect.

    An answer names criteria with commas between them, some with a sentiment, which is cut off. The eight that most
    train reviews name are the list A; each gives triples (u, `aspect/a`, i), as SAGCN does.

    Rejected, with these reasons: `placeholder`, `duplicate`, `too_long` (more than three words), `rare_aspect` (not in
    A).

    Limits: in the Yelp sample criteria are mostly sentences, so nearly all of them are too long.

    Source:
        PERSONA4REC, github.com/legenduck/PERSONA4REC@91cddf5, data/sample/*/2.5_grouped.jsonl.

    Deviations:
        There, criteria become personas of items; the reading as aspect graphs of SAGCN (see there) is ours.
    """

    model = "gpt-4o-mini"
    asked = "PERSONA4REC@91cddf5 extracted_aspects"
    Reply = _Aspects

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._books = self._read()
        reviews = sorted((r for book in self._books for r in book.aspects), key=_seconds, reverse=True)
        self._reviews = {(f"user:{r.user_id}", f"item:{r.item_id}"): r for r in reviews}  # the earliest of a pair
        self._list: tuple[Graph, set[str]] | None = None

    def dataset(self) -> Graph:
        """Return users, items with titles and texts, and who reviewed what when; see `Recording.dataset`."""
        items = [
            {"entity_id": f"item:{b.item_id}", "type": ITEM, "name": b.item_title, "text": b.item_description}
            for b in self._books
        ]
        users = sorted({user for user, _ in self._reviews})
        return Graph.from_rows(
            entities=[*items, *({"entity_id": user, "type": USER, "name": user} for user in users)],
            interactions=[
                {"user_id": user, "item_id": item, "timestamp": _seconds(r), "value": r.rating, "split": UNSPLIT}
                for (user, item), r in self._reviews.items()
            ],
        )

    def answers(self, graph: Graph) -> Mapping[str, str]:
        """Return the answers about train reviews; see `Recording.answers`."""
        train = set(self._train(graph))
        of_unit = {f"{user}|{item}": json.dumps(r.extracted_aspects) for (user, item), r in self._reviews.items()}
        return {unit: text for unit, text in of_unit.items() if unit in train}

    def shown(self, graph: Graph) -> Mapping[str, tuple[tuple[str, str], ...]]:
        """Return the reviewed pair of each unit."""
        return {unit: ((unit.split("|")[0], unit.split("|")[1]),) for unit in self._train(graph)}

    def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
        """Turn the criteria of one review into triples; see the class."""
        ((user, item),) = unit.shown
        allowed = self._short_list(graph)
        rows, rejected, seen = [], list[Rejected](), set[str]()
        for name in _criteria(reply.model_dump()["quality_criteria"]):
            fault = "placeholder" if is_placeholder(normalise(name)) else "duplicate" if name in seen else ""
            fault = fault or ("too_long" if _is_long(name) else "" if name in allowed else "rare_aspect")
            if fault:
                rejected.append(Rejected(fault, name))
                continue
            seen.add(name)
            rows.append({"head": user, "relation": relation_of(name), "tail": item, "confidence": 1.0})
        return Facts({"triples": rows}, rejected)

    def _train(self, graph: Graph) -> list[str]:
        train = graph.interactions_of(TRAIN)
        return [f"{u}|{i}" for u, i in zip(train["user_id"].to_pylist(), train["item_id"].to_pylist(), strict=True)]

    def _short_list(self, graph: Graph) -> set[str]:
        if self._list is None or self._list[0] is not graph:
            said = (_Aspects.model_validate_json(text).quality_criteria for text in self.answers(graph).values())
            names = (name for criteria in said for name in set(_criteria(criteria)))
            counts = Counter(name for name in names if not _is_long(name))
            ranked = sorted(counts, key=lambda name: (-counts[name], name))
            self._list = (graph, set(ranked[:_N_ASPECTS]))
        return self._list[1]

    def _read(self) -> list[_Book]:
        name = "2.5_grouped.jsonl"
        books = []
        for number, line in enumerate(read_text(self.folder, name).splitlines(), 1):
            try:
                books.append(_Book.model_validate_json(line))
            except ValidationError as error:
                msg = (
                    f"`{self.folder / name}`, line {number}, is no item with its reviews: `{line[:60]}`; fetch it again"
                )
                raise FileFormatError(msg) from error
        return books


def _is_long(name: str) -> bool:
    return len(name.split()) > _MAX_WORDS


def _seconds(review: _Review) -> int:
    when = review.timestamp
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())


def _criteria(text: str | None) -> list[str]:
    """Return the names in an answer, without the sentiment, in the form of concepts."""
    parts = _SENTIMENT.sub(" ", text or "").split(",")
    return [name for part in parts if (name := concept_id(ASPECT, clean(part))[1])]
