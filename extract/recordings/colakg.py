"""`colakg`: what deepseek-chat wrote about the artists and users of Last-FM, as texts."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from extract.documents import clean
from extract.method import Facts, Rejected, Unit
from extract.recorded import Recording, read_text, train_pairs
from kg.errors import FileFormatError
from kg.graph import Graph
from kg.sources.kgat import KGAT

_FILES = {"item": "llm_response_item.json", "user": "llm_response_user.json"}
_FACTS = "remapkg1.csv"
_MAX_CHARS = 4_000
_ANSWERS = TypeAdapter(dict[str, str])


class _Words(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: Annotated[str, Field(max_length=10 * _MAX_CHARS)]


class CoLaKG(Recording, name="colakg"):
    """Read a text about each item and each user, for an encoder to turn into features.

    The text of an item (kind `comprehension`) comes from its facts, that of a user (kind `preference`) from the user's
    train items with their facts; all train pairs of the user count as shown.

    Rejected, with these reasons: `empty` (no word), `unknown_entity` (the data set has no such item or user).

    Source:
        "Comprehending Knowledge Graphs with Large Language Models for Recommendation" (CoLaKG), SIGIR 2025, arXiv
        2410.12229; github.com/ziqiangcui/CoLaKG@7e1ce44, data/lastfm.

    Deviations:
        None in the texts. Last-FM only: the keys of ml-1m are original ids of films, which its lists do not have.
    """

    model = "deepseek-chat"
    asked = "CoLaKG@7e1ce44"
    Reply = _Words

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._answers = {
            f"{kind}:{number}": json.dumps({"text": text})
            for kind, name in _FILES.items()
            for number, text in self._read(name).items()
        }

    def dataset(self) -> Graph:
        """Return the data set in KGAT's files, with the facts that the items were described by."""
        return KGAT(KGAT.Config(facts=_FACTS)).read(self.folder)

    def answers(self, graph: Graph) -> Mapping[str, str]:
        """Return all answers; see `Recording.answers`."""
        return self._answers

    def shown(self, graph: Graph) -> Mapping[str, tuple[tuple[str, str], ...]]:
        """Return the train pairs of each user; items were described by facts alone."""
        return train_pairs(graph)

    def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
        """Turn an answer into the text of its item or user; see the class."""
        text = clean(reply.model_dump()["text"], _MAX_CHARS)
        if not text:
            return Facts({}, [Rejected("empty", unit.unit_id)])
        kind = "preference" if unit.unit_id.startswith("user:") else "comprehension"
        return Facts({"texts": [{"entity_id": unit.unit_id, "kind": kind, "text": text}]})

    def _read(self, name: str) -> dict[str, str]:
        text = read_text(self.folder, name)
        try:
            return _ANSWERS.validate_json(text)
        except ValidationError as error:
            msg = f"`{self.folder / name}` is no object of texts by number: `{text[:60]}`; fetch it again"
            raise FileFormatError(msg) from error
