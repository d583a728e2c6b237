"""`cikgrec`: interests that gpt-3.5-turbo inferred from users' train histories, as triples."""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from extract.method import Facts, Unit
from extract.recorded import Recording, read_text, train_pairs
from kg.errors import FileFormatError
from kg.graph import Graph
from kg.sources.kgat import KGAT

INTEREST = "Interest"


class _Interests(BaseModel):
    model_config = ConfigDict(extra="forbid")
    interests: Annotated[list[int], Field(max_length=1_000)]


class CIKGRec(Recording, name="cikgrec"):
    """Read which interests each user has; users who share a cluster of interests share its node.

    Each gives a triple (u, `has_interest`, interest). The published nodes are clusters without names, so a node is
    called by its number. The model saw up to 30 train titles of a user; all train pairs of the user count as shown.

    Source:
        "Bridging the User-side Knowledge Gap in Knowledge-aware Recommendations with Large Language Models" (CIKGRec),
        AAAI 2025, arXiv 2412.13544; github.com/laowangzi/CIKGRec@4cd310f, user_interest_clustered.txt.

    Deviations:
        None in the edges.
    """

    model = "gpt-3.5-turbo-0125"
    asked = "CIKGRec@4cd310f"
    Reply = _Interests

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        users = {number: raw for raw, number in self._cells("user_list.txt")[1:]}
        interests: dict[str, list[int]] = defaultdict(list)
        for user, interest in self._cells("user_interest_clustered.txt"):
            interests[f"user:{self._known(users, user)}"].append(int(interest))
        self._answers = {user: json.dumps({"interests": sorted(some)}) for user, some in interests.items()}

    def dataset(self) -> Graph:
        """Return the data set in KGAT's files."""
        return KGAT().read(self.folder)

    def answers(self, graph: Graph) -> Mapping[str, str]:
        """Return all answers; see `Recording.answers`."""
        return self._answers

    def shown(self, graph: Graph) -> Mapping[str, tuple[tuple[str, str], ...]]:
        """Return the train pairs of each user."""
        return train_pairs(graph)

    def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
        """Turn the interests of one user into triples; see the class."""
        numbers = reply.model_dump()["interests"]
        entities = [{"entity_id": f"interest:{n}", "type": INTEREST, "name": f"interest {n}"} for n in numbers]
        triple = {"head": unit.unit_id, "relation": "has_interest", "confidence": 1.0}
        return Facts({"entities": entities, "triples": [{**triple, "tail": e["entity_id"]} for e in entities]})

    def _cells(self, name: str) -> list[tuple[str, str]]:
        rows = []
        for number, line in enumerate(read_text(self.folder, name).splitlines(), 1):
            cells = line.split()
            if len(cells) != 2 or not (cells[1].isdecimal() or number == 1):
                if not cells:
                    continue
                msg = f"`{self.folder / name}`, line {number}, is `{line[:60]}`; expected an id and a number"
                raise FileFormatError(msg)
            rows.append((cells[0], cells[1]))
        return rows

    def _known(self, users: Mapping[str, str], number: str) -> str:
        if number in users:
            return users[number]
        msg = f"`{self.folder / 'user_interest_clustered.txt'}` names the user `{number}`, which user_list.txt lacks"
        raise FileFormatError(msg)
