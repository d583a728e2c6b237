"""`agent4rec`: tastes of MovieLens users by gpt-3.5-turbo, as hyperedges of interests."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from extract.documents import clean
from extract.ground import AMBIGUOUS, NOT_IN_CATALOGUE, Catalogue, concept_id
from extract.method import Facts, Rejected, Unit
from extract.recorded import Recording, read_rows
from kg.graph import Graph
from kg.sources.lightgcn import LightGCN
from kg.terms import ITEM

INTEREST = "Interest"
_GIVEN = ("raw_data/agg_top_25.csv", ("user_id", "movie_title_list"))
_TASTES = ("simulation/all_personas_like.csv", ("taste", "reason", "movie"))
_FILMS = ("simulation/movie_detail.csv", ("movie_id", "title"))
_TITLE = re.compile(r"[^;,\s].*?\(\d{4}\)")
_Part = Annotated[str, Field(max_length=10_000)]


class _Taste(BaseModel):
    model_config = ConfigDict(extra="forbid")
    taste: _Part
    reason: _Part
    titles: Annotated[list[_Part], Field(max_length=200)]


class _Persona(BaseModel):
    model_config = ConfigDict(extra="forbid")
    tastes: Annotated[list[_Taste], Field(max_length=100)]


class Agent4Rec(Recording, name="agent4rec"):
    """Read the tastes of each user, each with its reason and the films that show it, as hyperedges.

    A taste t of user u is a hyperedge of relation `interest` with the members u (role `user`), its films (role `item`)
    and the entity Interest t (role `interest`), with taste and reason as texts, as LLMHG gives them. Films are found by
    their titles. What the model was given, up to 25 train films of the user, counts as shown.

    Rejected, with these reasons: `not_in_catalogue`, `ambiguous`, `not_shown` (a film that the model was not given),
    `no_item` (a taste without any film left), `duplicate` (the taste or a film again).

    Source:
        "On Generative Agents in Recommendation" (Agent4Rec), SIGIR 2024, arXiv 2310.10108;
        github.com/LehengTHU/Agent4Rec@f4ee73e (MIT), all_personas_like.csv and agg_top_25.csv.

    Deviations:
        There, tastes steer simulated users; the reading as hyperedges is ours.
    """

    model = "gpt-3.5-turbo"
    asked = "Agent4Rec@f4ee73e all_personas_like"
    Reply = _Persona

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._given = {f"user:{row['user_id']}": row["movie_title_list"] for row in self._rows(_GIVEN)}
        self._answers = dict(self._personas())
        self._titles = {f"item:{row['movie_id']}": row["title"] for row in self._rows(_FILMS)}
        self._catalogue = Catalogue(self._titles)

    def dataset(self) -> Graph:
        """Return the graph of `cf_data` with the titles of its films."""
        graph = LightGCN().read(self.folder / "cf_data")
        rows = [
            {**row, "name": self._titles.get(row["entity_id"], row["name"]) if row["type"] == ITEM else row["name"]}
            for row in graph.entities.to_pylist()
        ]
        return graph.replace(entities=Graph.from_rows(entities=rows).entities)

    def answers(self, graph: Graph) -> Mapping[str, str]:
        """Return all answers; see `Recording.answers`."""
        return self._answers

    def shown(self, graph: Graph) -> Mapping[str, tuple[tuple[str, str], ...]]:
        """Return the films that the model was given, as far as they are found."""
        found = {
            user: [self._catalogue.ground(t).entity_id for t in _titles(text)] for user, text in self._given.items()
        }
        return {user: tuple((user, i) for i in sorted({i for i in items if i})) for user, items in found.items()}

    def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
        """Turn the tastes of one user into hyperedges; see the class."""
        rows: dict[str, list[dict[str, Any]]] = {
            t: [] for t in ("entities", "triples", "hyperedges", "members", "texts")
        }
        rejected, shown = list[Rejected](), {item for _, item in unit.shown}
        for said in reply.model_dump()["tastes"]:
            interest, name = concept_id(INTEREST, clean(said["taste"]))
            items = list(self._items(said["titles"], shown, rejected))
            is_known = any(e["entity_id"] == interest for e in rows["entities"])
            if not items or not name or is_known:
                rejected.append(Rejected("duplicate" if is_known else "no_item", said["taste"]))
                continue
            edge = f"interest_of:{hashlib.sha256(f'{unit.unit_id}|{interest}'.encode()).hexdigest()[:16]}"
            rows["entities"].append({"entity_id": interest, "type": INTEREST, "name": name})
            triple = {"head": unit.unit_id, "relation": "has_interest", "tail": interest}
            rows["triples"].append({**triple, "confidence": len(items) / max(len(shown), 1)})
            rows["hyperedges"].append({"hyperedge_id": edge, "relation": "interest", "weight": 1.0})
            members = [(unit.unit_id, "user"), *((item, "item") for item in items), (interest, "interest")]
            rows["members"] += [{"hyperedge_id": edge, "entity_id": e, "role": role} for e, role in members]
            texts = {"taste": clean(said["taste"]), "reason": clean(said["reason"])}
            rows["texts"] += [{"entity_id": edge, "kind": k, "text": text} for k, text in texts.items() if text]
        n_titles = sum(len(said["titles"]) for said in reply.model_dump()["tastes"])
        n_refused = sum(one.reason in (AMBIGUOUS, NOT_IN_CATALOGUE) for one in rejected)
        return Facts(rows, rejected, n_titles - n_refused)

    def _items(self, titles: list[str], shown: set[str], rejected: list[Rejected]) -> Iterator[str]:
        seen = set[str]()
        for title in titles:
            found = self._catalogue.ground(title)
            item = found.entity_id or ""
            reason = found.reason or ("duplicate" if item in seen else "" if item in shown else "not_shown")
            if reason:
                rejected.append(Rejected(reason, title))
                continue
            seen.add(item)
            yield item

    def _personas(self) -> Iterator[tuple[str, str]]:
        for number, row in enumerate(self._rows(_TASTES)):
            parts = [row[column].split("|") for column in ("taste", "reason", "movie")]
            tastes = [
                {"taste": taste.strip(), "reason": reason.strip(), "titles": _titles(films)}
                for taste, reason, films in zip(*parts, strict=False)
            ]
            yield f"user:{number}", json.dumps({"tastes": tastes})

    def _rows(self, file: tuple[str, tuple[str, ...]]) -> list[dict[str, str]]:
        return read_rows(self.folder, *file)


def _titles(text: str) -> list[str]:
    """Return the titles of a list that separates them by semicolons or commas; each ends with its year."""
    return [title.strip() for title in _TITLE.findall(text)]
