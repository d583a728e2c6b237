"""`colakg`: what deepseek-chat wrote about the films of ML-1M, and the artists and users of Last-FM, as texts."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from extract.documents import clean
from extract.method import Facts, Rejected, Unit
from extract.recorded import Recording, read_text, train_pairs
from kg.assemble import Assembly
from kg.delimited import locate, plain_name, require
from kg.errors import FileFormatError
from kg.graph import Graph
from kg.remap import read_remap
from kg.sources.kgat import KGAT
from kg.sources.lightgcn import describe_listed, read_split_lists
from kg.terms import ITEM

_KINDS = ("user", "item")
_ITEMS = "llm_response_item.json"
_USERS = "llm_response_user.json"
_FACTS = "remapkg1.csv"
_MAX_CHARS = 4_000
_ANSWERS = TypeAdapter(dict[int, str])


class _Words(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: Annotated[str, Field(max_length=10 * _MAX_CHARS)]


class CoLaKG(Recording, name="colakg"):
    """Read a text about each item and, where they are there, about each user, for an encoder to turn into features.

    The text of an item (kind `comprehension`) comes from its facts, that of a user (kind `preference`) from the user's
    train items with their facts; all train pairs of the user count as shown.

    With `remapkg1.csv` (Last-FM) ids are the numbers of the lists. Without it (ML-1M) they are the ids behind the
    numbers, from item_map.txt and user_map.txt; a file of answers whose numbers are not all in the map has ids already.

    Rejected, with these reasons: `empty` (no word), `unknown_entity` (the data set has no such item or user).

    Source:
        "Comprehending Knowledge Graphs with Large Language Models for Recommendation" (CoLaKG), SIGIR 2025, arXiv
        2410.12229; github.com/ziqiangcui/CoLaKG@7e1ce44, data/lastfm and data/ml-1m.

    Deviations:
        None in the texts. Of ML-1M, 623 of 3,883 texts are about films that its lists do not have; its texts about
        users are not at hand in Git. The facts that films were described by are not read.
    """

    model = "deepseek-chat"
    asked = "CoLaKG@7e1ce44"
    Reply = _Words

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        given = {"item": self._read(_ITEMS)}
        if locate(folder, _USERS):
            given["user"] = self._read(_USERS)
        has_facts = locate(folder, _FACTS) is not None
        self._maps = {} if has_facts else {kind: read_remap(require(folder, f"{kind}_map.txt")) for kind in _KINDS}
        self._answers = {unit: text for kind in given for unit, text in self._named(kind, given[kind])}

    def dataset(self) -> Graph:
        """Return the data set in KGAT's files with the facts, or in LightGCN's lists with the ids behind them."""
        if not self._maps:
            return KGAT(KGAT.Config(facts=_FACTS)).read(self.folder)
        made = Assembly(plain_name(self.folder))
        read_split_lists(made, self.folder, self._maps["user"], self._maps["item"])
        describe_listed(made, self._maps["item"], ITEM)
        return made.finish()[0]

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

    def _named(self, kind: str, texts: Mapping[int, str]) -> Iterator[tuple[str, str]]:
        raw = self._maps[kind].raw if self._maps else {}
        ids = raw if texts.keys() <= raw.keys() else {}
        for number, text in texts.items():
            yield f"{kind}:{ids.get(number, number)}", json.dumps({"text": text})

    def _read(self, name: str) -> dict[int, str]:
        text = read_text(self.folder, name)
        try:
            return _ANSWERS.validate_json(text)
        except ValidationError as error:
            msg = f"`{self.folder / name}` is no object of texts by number: `{text[:60]}`; fetch it again"
            raise FileFormatError(msg) from error
