"""`llmhg`: interest angles and categories of a user's history, as hyperedges."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from extract.documents import clean
from extract.echo import REPEATS_PROMPT, Echo
from extract.ground import CONCEPT_FORM, concept_id, is_placeholder, normalise
from extract.histories import most_active, train_histories
from extract.method import Facts, Method, Rejected, Unit, check_ranges
from extract.reasoning import Words
from extract.template import load_prompt
from kg.graph import Graph

INTEREST = "Interest"
OTHER = "other"
_MAX_NAME = 32
_NUMBERED = re.compile(r"s?\W*\d*")


@dataclass
class _Bundle:
    """A category of one angle, merged over its mentions in one reply."""

    angle: str
    category: str
    places: set[int] = field(default_factory=set)


class LLMHG(Method, name="llmhg"):
    r"""Ask for the angles from which a user's train history hangs together, and keep each category as a hyperedge.

    1. Units: users with at least `min_interactions` train interactions, most active first, then by id. The question
       shows titles and texts of the last `n_items` (by time) train items V_u, numbered from 1, and nothing of valid or
       test; the unit's `shown` lists the pairs.
    2. Reply: up to `max_angles` interest angles, each with named categories, each with item numbers.
    3. Facts: for user u, angle a and category k with items e(u, a, k), a subset of V_u:
       a hyperedge of relation `interest` with the members u (role `user`), the items (role `item`) and the entity
       Interest k (role `interest`), shared by all users with that category; its id is a hash of (u, a, k); angle and
       category are its texts; a triple (u, has_interest, k).
    4. Items of V_u that an angle leaves out form the category `other` of that angle; it is no interest, so it has
       neither Interest entity nor triple.
    5. Weights, rules and not words of the model: w(e) = 1 for a named category, `other_weight` for `other`;      (1)
       confidence of (u, has_interest, k): c = |union over a of e(u, a, k)| / |V_u|.                              (2)

    Dropped and counted: `unknown_number` (no item has it), `duplicate` (the number or the category again),
    `no_item` (a category without an item), `placeholder` (a name that names nothing, or the angle again, perhaps with a
    number), `repeats_prompt` (a category that is an angle of the question, or words of it, see `extract.echo.Echo`),
    `repeats_title` (a category that is a title shown, or two words or more of one), `unknown_angle` (`angles` lacks
    it).

    Limits: a hyperedge may hold a single item; models must define the intra-edge term of a single item (0), as
    the pairwise mean divides by |e|(|e| - 1). An angle without any category that stands gives no hyperedge.

    Source:
        "LLM-Guided Multi-View Hypergraph Learning for Human-Centric Explainable Recommendation", arXiv 2401.08217: the
        two steps interest angles -> categories, one hypergraph per angle, and items that the model invents or omits.

    Deviations:
        Reconstruction: the paper's prompts were not at hand. One question gives angles and categories (the paper asks
        twice). Items are numbers, not titles, so an invented item cannot be mistaken for another. The parameter
        `angles`, the Interest entity and the rules (1) and (2) are ours; the paper learns the weights of hyperedges,
        which is the recommender's part.
    """

    prompt = "llmhg.v1"

    @dataclass(frozen=True)
    class Config:
        """Which users, how much of their history.

        Attributes:
            max_users: so many users, the most active first.
            min_interactions: fewest train interactions of a user.
            n_items: so many of the last train items are shown.
            angles: the angles to ask for; empty: up to `max_angles` of the model's own, as published.
            max_angles: at most so many angles.
            max_categories: at most so many categories an angle.
            other_weight: weight of the hyperedge of omitted items.
        """

        max_users: int = 1000
        min_interactions: int = 5
        n_items: int = 20
        angles: tuple[str, ...] = ()
        max_angles: int = 3
        max_categories: int = 4
        other_weight: float = 0.5

        def __post_init__(self) -> None:
            """Check the ranges."""
            bounds = {"max_users": (1, 10**9), "min_interactions": (1, 10**9), "n_items": (1, 200)}
            bounds |= {"max_angles": (1, 10), "max_categories": (1, 20), "other_weight": (0, 1)}
            check_ranges(self, bounds)

    config: Config
    Reply = BaseModel

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.Reply = _reply_type(config)
        self._angles = {_name(angle) for angle in config.angles}
        self._echo = Echo(load_prompt(self.prompt), self.Reply.model_json_schema(), config.angles)

    def units(self, graph: Graph) -> Iterator[Unit]:
        """Yield a question for each of the most active users.

        Args:
            graph: its train interactions and the names of its items.
        """
        c = self.config
        constant = {"angles": list(c.angles), "max_angles": c.max_angles, "max_categories": c.max_categories}
        words, histories = Words(graph), train_histories(graph)
        for user in most_active(histories, c.min_interactions, c.max_users):
            items = histories[user][-self.config.n_items :]
            titles = [words.of(item) for item in items]
            yield Unit(user, {**constant, "titles": titles}, tuple((user, item) for item in items))

    def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
        """Turn angles and categories into hyperedges.

        Args:
            reply: a `Reply` of this method.
            unit: the question; `shown` gives the items in the order of their numbers.
            graph: not needed.

        Returns:
            Rows of `entities`, `triples`, `hyperedges`, `members` and `texts`, and what was rejected.
        """
        rejected: list[Rejected] = []
        items = [item for _, item in unit.shown]
        titles = [normalise(title.partition(" (")[0]) for title in unit.variables["titles"]]
        bundles = _bundles(reply.model_dump()["angles"], titles, self._angles, self._echo, rejected)
        rows: dict[str, list[dict[str, Any]]] = {
            t: [] for t in ("entities", "triples", "hyperedges", "members", "texts")
        }
        covered: dict[str, set[int]] = defaultdict(set)
        for bundle in bundles:
            self._add_hyperedge(rows, bundle, unit.unit_id, items)
            if bundle.category != OTHER:
                covered[bundle.category] |= bundle.places
        for category, places in covered.items():
            interest, name = concept_id(INTEREST, category)
            rows["entities"].append({"entity_id": interest, "type": INTEREST, "name": name})
            triple = {"head": unit.unit_id, "relation": "has_interest", "tail": interest}
            rows["triples"].append({**triple, "confidence": len(places) / len(items)})
        return Facts(rows, rejected)

    def _add_hyperedge(
        self, rows: Mapping[str, list[dict[str, Any]]], bundle: _Bundle, user: str, items: list[str]
    ) -> None:
        is_other = bundle.category == OTHER
        key = "\0".join((user, bundle.angle, bundle.category)).encode()
        hyperedge = f"interest_of:{hashlib.sha256(key).hexdigest()[:16]}"
        weight = self.config.other_weight if is_other else 1.0
        rows["hyperedges"].append({"hyperedge_id": hyperedge, "relation": "interest", "weight": weight})
        members = [(user, "user"), *((items[place], "item") for place in sorted(bundle.places))]
        if not is_other:
            members.append((concept_id(INTEREST, bundle.category)[0], "interest"))
        rows["members"] += [{"hyperedge_id": hyperedge, "entity_id": e, "role": role} for e, role in members]
        texts = (("angle", bundle.angle), ("category", bundle.category))
        rows["texts"] += [{"entity_id": hyperedge, "kind": kind, "text": text} for kind, text in texts]


def _bundles(
    angles: list[dict[str, Any]], titles: list[str], allowed: set[str], echo: Echo, rejected: list[Rejected]
) -> list[_Bundle]:
    """Merge the categories of each angle, complete it with `other`, and note what is dropped."""
    by_angle: dict[str, dict[str, _Bundle]] = defaultdict(dict)
    for given in angles:
        angle = _name(given["angle"])
        is_allowed = angle in allowed if allowed else not is_placeholder(angle)
        if not is_allowed:
            reason = "unknown_angle" if allowed else "placeholder"
            rejected.append(Rejected(reason, f"angle: {given['angle']}"))
            continue
        for entry in given["categories"]:
            _enter(by_angle[angle], angle, entry, titles, echo, rejected)
    for angle, bundles in by_angle.items():
        omitted = set(range(len(titles))).difference(*(b.places for b in bundles.values()))
        if bundles and omitted:
            bundles.setdefault(OTHER, _Bundle(angle, OTHER)).places.update(omitted)
    return [bundle for bundles in by_angle.values() for bundle in bundles.values()]


def _enter(
    bundles: dict[str, _Bundle],
    angle: str,
    entry: dict[str, Any],
    titles: list[str],
    echo: Echo,
    rejected: list[Rejected],
) -> None:
    category = _name(entry["category"])
    what = f"{angle}/{category}"
    if fault := _fault(category, angle, titles, echo):
        rejected.append(Rejected(fault, f"category: {angle}/{entry['category']}"))
        return
    wrong = [n for n in entry["items"] if not 1 <= n <= len(titles)]
    places = {n - 1 for n in entry["items"]} - {n - 1 for n in wrong}
    rejected += [Rejected("unknown_number", f"{what}: {n}") for n in wrong]
    n_twice = len(entry["items"]) - len(wrong) - len(places)
    rejected += [Rejected("duplicate", what)] * (n_twice + (category in bundles))
    if places:
        bundles.setdefault(category, _Bundle(angle, category)).places.update(places)
    else:
        rejected.append(Rejected("no_item", what))


def _fault(category: str, angle: str, titles: list[str], echo: Echo) -> str:
    """Return why a category names no interest; empty where it does."""
    is_angle = category.startswith(angle) and _NUMBERED.fullmatch(category.removeprefix(angle))
    if is_angle or is_placeholder(category):
        return "placeholder"
    words = normalise(category)
    if echo.has(words):
        return REPEATS_PROMPT
    is_title = any(words == title or (" " in words and f" {words} " in f" {title} ") for title in titles)
    return "repeats_title" if is_title else ""


def _name(text: str) -> str:
    """Return the canonical name of an angle or category; empty where it has no letter or digit."""
    return concept_id(INTEREST, normalise(clean(text, _MAX_NAME)))[1]


def _reply_type(config: LLMHG.Config) -> type[BaseModel]:
    """Return the reply model; the schema bounds the numbers, validation does not: one wrong number costs one number."""
    strict = ConfigDict(extra="forbid")
    name: Any = Annotated[str, Field(min_length=1, max_length=_MAX_NAME, json_schema_extra=CONCEPT_FORM)]
    number: Any = Annotated[int, Field(json_schema_extra={"minimum": 1, "maximum": config.n_items})]
    numbers: Any = Annotated[list[number], Field(max_length=config.n_items)]
    category: Any = create_model("Category", __config__=strict, category=(name, ...), items=(numbers, ...))
    categories: Any = Annotated[list[category], Field(min_length=1, max_length=config.max_categories)]
    kind: Any = Annotated[name, Field(json_schema_extra={"enum": list(config.angles)})] if config.angles else name
    angle: Any = create_model("Angle", __config__=strict, angle=(kind, ...), categories=(categories, ...))
    angles: Any = Annotated[list[angle], Field(min_length=1, max_length=config.max_angles)]
    return create_model("LlmhgReply", __config__=strict, angles=(angles, ...))
