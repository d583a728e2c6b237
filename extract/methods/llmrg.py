"""`llmrg`: chains of reasons through a user's history, verified, extended, and kept as ordered hyperedges."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.config import JsonDict

from extract.documents import clean
from extract.ground import Likeness, is_placeholder, normalise
from extract.histories import most_active, train_histories
from extract.method import Facts, Method, Rejected, Unit, check_ranges
from extract.reasoning import (
    MASK,
    MAX_TITLE,
    Chain,
    Words,
    add_chain,
    chains_of,
    distinct,
    followed,
    graph_of_chains,
    links_of,
    masked_place,
    no_rows,
    recalled,
)
from kg.graph import Graph

REASONING = "reasoning"
DIVERGENCE = "divergence"
CHAIN = "reasoning_chain"
_FILL = "chain_fill"
_EXTENSION = "chain_extension"
_MAX_REASON = 120
_STRICT = ConfigDict(extra="forbid")
_AT_LEAST_ONE: JsonDict = {"minItems": 1}  # small models rather say nothing; nothing is still a valid reply
_Title: Any = Annotated[str, Field(min_length=1, max_length=MAX_TITLE)]


class LLMRG(Method, name="llmrg"):
    r"""Ask which choices of a user lead to which, verify each chain by a masked item, and extend it by imagined items.

    1. Reason: users with at least `min_interactions` train interactions, most active first. The question shows the last
       `n_items` train items in order of time; the reply gives chains of them, each with its reason, in that order.
    2. Fill: one item of each chain is masked (chosen by a hash of the chain), in its reason, too, and the model names
       it. A reason that still tells words of the title is not shown.
    3. Score: where the fill is not the masked item, the model says how near it is, s in 0..100; else s = 100.  A chain
       stands if s >= `min_score`, the paper's tau; its weight is s / 100.                                          (1)
    4. Extend: up to `n_imagined` next items for each chain that stands, grounded to the catalogue (by the exact name,
       the normalised one, its parts, the nearest by letters from `min_similarity` on, by meaning from `min_meaning`
       on). The extended chain is verified like any other, with the imagined item masked.
    5. Knowledge base: steps 2 to 4 ask once for each distinct chain, whoever made it. Users come in `n_rounds` groups;
       links of chains that stand by then, in this run or in the graph that is given, are looked up first: a user is
       asked only about the items that no known link joins, and not at all if fewer than two are left.

    Graph: G_rea, hyperedges `reasoning` (role `user`, and `item` with positions); G_div, hyperedges `divergence` (the
    same with the role `imagined` at the last position) for each user with the chain who does not have the item; the
    knowledge base, hyperedges `reasoning_chain` of items alone. Each has the text `reason`.

    Rejected, with these reasons: `unknown_number`, `duplicate`, `too_short` (fewer than two items), `placeholder`,
    `not_in_catalogue`, `ambiguous`, `repeats_chain` (an imagined item that the chain has), `low_score`, `unverified`
    (no valid fill or score), `known_to_user` (an imagined item that the user has).

    Limits: an imagined item may be one that is held out for the user; that is a prediction from train-only prompts, and
    `kg.check` counts it as such.

    Source:
        "LLMRG: Improving Recommendations through Large Language Model Reasoning Graphs", AAAI 2024, arXiv 2308.10835:
        chained reasoning, divergent extension, verification by mask-and-fill with a score, knowledge base.

    Deviations:
        One question a user gives all chains (the paper asks item by item); the numbers of a chain are put in order, and
        each counts once. Items are masked, never attributes. The knowledge base works on links, and verification and
        extension are independent of the user. tau, the number of imagined items and the language model that retrieves
        titles are not given in the paper: the defaults are ours, and a sentence encoder is asked only if `min_meaning`
        is below 1. Prompts are ours.
        The two SR-GNN encoders are a recommender's part.
    """

    prompt = "llmrg.v1"
    later_prompts = ("llmrg_fill.v2", "llmrg_score.v1", "llmrg_extend.v1")

    @dataclass(frozen=True)
    class Config:
        """Which users, how much of their history, how strict.

        Attributes:
            max_users: so many users, the most active first.
            min_interactions: fewest train interactions of a user.
            n_items: so many of the last train items are shown.
            max_chains: at most so many chains a user.
            n_imagined: at most so many imagined items a chain; 0: no extension.
            min_score: smallest score of a chain that stands, 0 to 100.
            min_similarity: from which likeness of letters on an unknown title means the nearest item; 1: never.
            min_meaning: from which likeness of meaning on, by a sentence encoder; 1: no encoder is asked.
            n_rounds: groups of users; each profits from the chains of those before.
        """

        max_users: int = 1000
        min_interactions: int = 5
        n_items: int = 15
        max_chains: int = 3
        n_imagined: int = 2
        min_score: int = 30
        min_similarity: float = 0.85
        min_meaning: float = 1.0
        n_rounds: int = 4

        def __post_init__(self) -> None:
            """Check the ranges."""
            bounds: dict[str, tuple[float, float]] = {"max_users": (1, 10**9), "min_interactions": (2, 10**9)}
            bounds |= {"n_items": (2, 100), "max_chains": (1, 10), "n_imagined": (0, 10), "min_score": (0, 100)}
            check_ranges(self, bounds | {"min_similarity": (0, 1), "min_meaning": (0, 1), "n_rounds": (1, 1000)})

    config: Config
    Reply = BaseModel

    def __init__(self, config: Config, group: int = 0) -> None:
        super().__init__(config)
        self._group = group
        number: Any = Annotated[int, Field(json_schema_extra={"minimum": 1, "maximum": config.n_items})]
        numbers: Any = Annotated[list[number], Field(min_length=1, max_length=config.n_items)]
        reason: Any = Annotated[str, Field(min_length=1, max_length=_MAX_REASON)]
        chain: Any = create_model("Chain", __config__=_STRICT, items=(numbers, ...), reason=(reason, ...))
        chains: Any = Annotated[list[chain], Field(max_length=config.max_chains, json_schema_extra=_AT_LEAST_ONE)]
        self.Reply = create_model("LlmrgReply", __config__=_STRICT, chains=(chains, ...))

    def units(self, graph: Graph) -> Iterator[Unit]:
        """Yield a question for each user of this group about whose items the knowledge base does not say enough.

        Args:
            graph: its train interactions, the names of its items and the chains it knows.
        """
        c = self.config
        histories = train_histories(graph)
        words, links = Words(graph), links_of(chains_of(graph, CHAIN), c.min_score / 100)
        for user in self._users(histories):
            items = histories[user][-c.n_items :]
            known = {item for link in followed(items, links) for item in link}
            left = [item for item in items if item not in known]
            if len(left) > 1:
                variables = {"max_chains": c.max_chains, "items": [words.of(item) for item in left]}
                yield Unit(user, variables, tuple((user, item) for item in left))

    def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
        """Turn chains of numbers into hyperedges, not yet verified.

        Args:
            reply: a `Reply` of this method.
            unit: the question; `shown` gives the items in the order of their numbers.
            graph: not needed.
        """
        rows, rejected = no_rows(), list[Rejected]()
        shown, seen = [item for _, item in unit.shown], set[tuple[str, ...]]()
        for given in reply.model_dump()["chains"]:
            numbers = given["items"]
            right = sorted({n for n in numbers if 1 <= n <= len(shown)})
            rejected += [Rejected("unknown_number", str(n)) for n in numbers if not 1 <= n <= len(shown)]
            rejected += [Rejected("duplicate", str(n)) for n in right for _ in range(numbers.count(n) - 1)]
            items, reason = tuple(shown[n - 1] for n in right), clean(given["reason"], _MAX_REASON)
            fault = "too_short" if len(items) < 2 else "duplicate" if items in seen else ""
            if fault or is_placeholder(normalise(reason)):
                rejected.append(Rejected(fault or "placeholder", f"{numbers}: {reason}"))
                continue
            seen.add(items)
            add_chain(rows, REASONING, Chain(items, reason, unit.unit_id))
        return Facts(rows, rejected)

    def then(self, known: Graph) -> Method:
        """Verify what this group gave; then ask the next group, and after the last extend what stands.

        Args:
            known: its train interactions.
        """
        after: Method | None = _Extend(self.config) if self.config.n_imagined else None
        if self._group + 1 < self.config.n_rounds:
            after = LLMRG(self.config, self._group + 1)
        users = set(self._users(train_histories(known)))
        return _Fill(self.config, REASONING, after, lambda chain: chain.user in users)

    def later_steps(self, graph: Graph) -> Sequence[tuple[str, int]]:
        """Bound the steps: a user has at most `max_chains` chains, a chain at most `n_imagined` imagined items.

        Args:
            graph: its train interactions.
        """
        c = self.config
        n_users = len(most_active(train_histories(graph), c.min_interactions, c.max_users))
        n_group, steps = -(-n_users // c.n_rounds), list[tuple[str, int]]()
        for group in range(c.n_rounds):
            n_asked = len(range(n_users)[group * n_group : (group + 1) * n_group])
            steps += [(self.name, n_asked), *((step.name, n_asked * c.max_chains) for step in (_Fill, _Score))]
        if n_chains := n_users * c.max_chains if c.n_imagined else 0:
            n_extended = n_chains * c.n_imagined
            steps += [(_Extend.name, n_chains), (_Fill.name, n_extended), (_Score.name, n_extended)]
        return steps[1:]

    def conclude(self, found: Graph, known: Graph) -> tuple[Graph, Sequence[Rejected]]:
        """Keep what was verified, add what the knowledge base says, and give each user the imagined items.

        Args:
            found: what all steps found.
            known: the same with the data set.
        """
        rows, verdicts = no_rows(), _Verdicts(known, self.config.min_score)
        histories = train_histories(known)
        users = most_active(histories, self.config.min_interactions, self.config.max_users)
        of_chain: dict[tuple[str, ...], set[str]] = defaultdict(set)
        proposed = chains_of(found, REASONING)
        recalls = recalled({u: histories[u][-self.config.n_items :] for u in users}, verdicts.links, proposed)
        for chain in verdicts.standing([*proposed, *recalls]):
            of_chain[chain.items].add(chain.user)
            add_chain(rows, REASONING, chain)
        for chain in chains_of(found, CHAIN):
            if chain.weight * 100 >= self.config.min_score:
                add_chain(rows, CHAIN, chain)
        rejected = list[Rejected]()
        for chain in verdicts.standing(chains_of(found, _EXTENSION)):
            for user in sorted(of_chain[chain.items[:-1]]):
                if chain.items[-1] in histories[user]:
                    rejected.append(Rejected("known_to_user", f"{user}: {chain.items[-1]}"))
                else:
                    add_chain(rows, DIVERGENCE, chain.changed(user=user))
        return graph_of_chains(rows, known), [*verdicts.rejected, *rejected]

    def _users(self, histories: dict[str, list[str]]) -> list[str]:
        """Return the users of this group."""
        users = most_active(histories, self.config.min_interactions, self.config.max_users)
        n_group = -(-len(users) // self.config.n_rounds)
        return users[self._group * n_group : (self._group + 1) * n_group]


class _Verdicts:
    """What the knowledge base says of chains."""

    def __init__(self, known: Graph, min_score: int) -> None:
        chains = chains_of(known, CHAIN)
        self._weights = {chain.items: chain.weight for chain in chains}
        self._min_weight = min_score / 100
        self.links = links_of(chains, self._min_weight)
        self.rejected: list[Rejected] = []

    def standing(self, chains: Sequence[Chain]) -> Iterator[Chain]:
        """Yield the chains that stand, with their weights; a link of a known chain is one that stands."""
        for chain in chains:
            weight = self._weights.get(chain.items)
            if weight is None and chain.items in self.links:
                weight = self.links[chain.items[0], chain.items[1]].weight
            if weight is not None and weight >= self._min_weight:
                yield chain.changed(weight=weight)
            else:
                self.rejected.append(
                    Rejected("unverified" if weight is None else "low_score", " -> ".join(chain.items))
                )


class _Step(Method):
    """A step after the first: it asks about chains, each once, and of its own round only.

    Args:
        config: of the method.
        relation: of these chains.
        after: the step that follows.
        is_own: says whether a chain is of this round.
    """

    def __init__(
        self, config: LLMRG.Config, relation: str, after: Method | None, is_own: Callable[[Chain], bool]
    ) -> None:
        super().__init__(config)
        self._relation, self._after, self._is_own = relation, after, is_own
        self._known: tuple[Graph, dict[str, Chain], Words] | None = None

    def asked(self, graph: Graph) -> dict[str, Chain]:
        """Return the chains to ask about, by key: those that nobody judged, nor set aside in an earlier round."""
        chains = chains_of(graph, self._relation)
        earlier = [chain for chain in chains if not self._is_own(chain)]
        return distinct(chains, {chain.items for chain in (*chains_of(graph, CHAIN), *earlier)})

    def then(self, known: Graph) -> Method | None:
        return self._after

    def chains(self, graph: Graph) -> dict[str, Chain]:
        """Return what `asked` returns, found once for each graph."""
        return self._of(graph)[1]

    def words(self, graph: Graph) -> Words:
        return self._of(graph)[2]

    def _of(self, graph: Graph) -> tuple[Graph, dict[str, Chain], Words]:
        if self._known is None or self._known[0] is not graph:
            likeness = Likeness(self.config.min_similarity, self.config.min_meaning, self.encode)
            self._known = (graph, self.asked(graph), Words(graph, likeness))
        return self._known


class _Fill(_Step):
    """Mask one item of each chain that nobody judged yet, and ask for it."""

    name = "llmrg_fill"
    prompt = "llmrg_fill.v2"
    Reply = create_model("LlmrgFill", __config__=_STRICT, title=(_Title, ...))

    def units(self, graph: Graph) -> Iterator[Unit]:
        for key, chain in self.chains(graph).items():
            masked = masked_place(chain)
            words = self.words(graph)
            items = [MASK if n == masked else words.of(i) for n, i in enumerate(chain.items)]
            shown = {"items": items, "reason": words.masked(chain.reason, chain.items[masked])}
            yield Unit(f"chain:{key}", shown, _shown(chain, masked))

    def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
        chain, rows = self.chains(graph)[_key(unit)], no_rows()
        title = clean(reply.model_dump()["title"], MAX_TITLE)
        if is_placeholder(normalise(title)):
            return Facts({}, [Rejected("placeholder", title)])
        if self.words(graph).ground(title).entity_id == chain.items[masked_place(chain)]:
            add_chain(rows, CHAIN, chain.changed(user="", source="", weight=1.0))
        else:
            add_chain(rows, _FILL, chain.changed(source="", weight=0.0, note=title))
        return Facts(rows)

    def then(self, known: Graph) -> Method:
        return _Score(self.config, _FILL, self._after, self._is_own)


class _Score(_Step):
    """Ask how near a fill is that names another item than the masked one."""

    name = "llmrg_score"
    prompt = "llmrg_score.v1"
    Reply = create_model("LlmrgScore", __config__=_STRICT, score=(Annotated[int, Field(ge=0, le=100)], ...))

    def units(self, graph: Graph) -> Iterator[Unit]:
        for key, chain in self.chains(graph).items():
            items = [self.words(graph).of(i) for i in chain.items]
            said: dict[str, Any] = {"reason": chain.reason, "guess": chain.note, "place": masked_place(chain) + 1}
            yield Unit(f"chain:{key}", {"items": items, **said}, _shown(chain))

    def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
        rows, weight = no_rows(), reply.model_dump()["score"] / 100
        add_chain(rows, CHAIN, self.chains(graph)[_key(unit)].changed(user="", source="", weight=weight, note=""))
        return Facts(rows)


class _Extend(_Step):
    """Ask what comes after each chain that stands."""

    name = "llmrg_extend"
    prompt = "llmrg_extend.v1"

    def __init__(self, config: LLMRG.Config) -> None:
        is_extended = attrgetter("is_extended")
        super().__init__(config, REASONING, _Fill(config, _EXTENSION, None, is_extended), is_extended)
        titles: Any = Annotated[list[_Title], Field(max_length=config.n_imagined, json_schema_extra=_AT_LEAST_ONE)]
        self.Reply = create_model("LlmrgExtension", __config__=_STRICT, titles=(titles, ...))

    def asked(self, graph: Graph) -> dict[str, Chain]:
        known, least = chains_of(graph, CHAIN), self.config.min_score / 100
        stand = {chain.items for chain in known if chain.weight >= least}
        done = {chain.items[:-1] for chain in known if chain.is_extended}
        return distinct([c for c in chains_of(graph, REASONING) if c.items in stand], done)

    def units(self, graph: Graph) -> Iterator[Unit]:
        for key, chain in self.chains(graph).items():
            items = [self.words(graph).of(i) for i in chain.items]
            variables = {"items": items, "reason": chain.reason, "n_imagined": self.config.n_imagined}
            yield Unit(f"chain:{key}", variables, _shown(chain))

    def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
        chain, rows = self.chains(graph)[_key(unit)], no_rows()
        rejected, seen, n_grounded = list[Rejected](), set[str](), 0
        for title in reply.model_dump()["titles"]:
            found = self.words(graph).ground(clean(title, MAX_TITLE))
            item = found.entity_id or ""
            n_grounded += bool(item)
            reason = found.reason or ("repeats_chain" if item in chain.items else "duplicate" if item in seen else "")
            if reason:
                rejected.append(Rejected(reason, title))
                continue
            seen.add(item)
            add_chain(rows, _EXTENSION, Chain((*chain.items, item), chain.reason, chain.user, is_extended=True))
        return Facts(rows, rejected, n_grounded)


def _key(unit: Unit) -> str:
    return unit.unit_id.partition(":")[2]


def _shown(chain: Chain, masked: int = -1) -> tuple[tuple[str, str], ...]:
    """Return the user's own items that a question about a chain shows."""
    own = chain.items[:-1] if chain.is_extended else chain.items
    return tuple((chain.user, item) for place, item in enumerate(own) if place != masked)
