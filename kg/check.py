"""The leak check: nothing outside `train` may reach a model or a graph; and what else looks wrong."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from kg.errors import LeakError, first_five
from kg.graph import Graph
from kg.terms import DATASET, ITEM, LLM, TEST, TRAIN, UNSPLIT, USER, VALID

Severity = Literal["error", "warning", "info"]
_SEPARATOR = "\x1f"


@dataclass(frozen=True)
class Finding:
    """One thing that the check found.

    Attributes:
        severity: `error` is a leak, `warning` weakens a result, `info` is worth knowing.
        code: a short fixed name, for scripts.
        count: how many rows or ids.
        examples: the first five.
        text: what it means and what to do.
    """

    severity: Severity
    code: str
    count: int
    examples: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class CheckReport:
    """Everything that `check` found, errors first."""

    findings: tuple[Finding, ...]

    @property
    def is_clean(self) -> bool:
        """Say whether no finding is an error."""
        return not self.errors

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that are errors."""
        return tuple(f for f in self.findings if f.severity == "error")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: `is_clean` and `findings`."""
        return {"is_clean": self.is_clean, "findings": [asdict(f) for f in self.findings]}


def check(graph: Graph) -> CheckReport:
    """Look for leaks and for what weakens a result; never raises on a valid graph.

    Errors are: interactions without a split; a valid, test or unknown interaction that was shown to a model; a valid
    or test interaction that a data set states again as a triple or hyperedge. A held-out pair that an LLM or a rule
    proposes is only a warning: a right guess from train-only prompts is no leak, and a prompt that showed the pair is
    an error by itself. A hyperedge states the pair of its user and each of its items when it has exactly one user.
    """
    found = [finding for look in _LOOKS for finding in look(graph)]
    rank = {"error": 0, "warning": 1, "info": 2}
    return CheckReport(tuple(sorted(found, key=lambda f: (rank[f.severity], f.code))))


def assert_no_leak(graph: Graph) -> None:
    """Check a graph before it reaches a model.

    Raises:
        LeakError: naming each kind of leak, with its count and the first five.
    """
    errors = check(graph).errors
    if errors:
        msg = "; ".join(f"{f.code}: {f.count} ({first_five(f.examples)}): {f.text}" for f in errors)
        raise LeakError(msg)


def _finding(severity: Severity, code: str, values: Iterable[str], text: str) -> list[Finding]:
    listed = sorted(values)
    if not listed:
        return []
    return [Finding(severity, code, len(listed), tuple(v.replace(_SEPARATOR, " - ") for v in listed[:5]), text)]


def _pairs(users: Any, items: Any) -> Any:
    return pc.binary_join_element_wise(users, items, _SEPARATOR)


def _pairs_of(graph: Graph, *splits: str) -> pa.Array:
    rows = graph.interactions.filter(pc.is_in(graph.interactions["split"], value_set=pa.array(splits, pa.string())))
    return _flat(_pairs(rows["user_id"], rows["item_id"]))


def _flat(values: Any) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _unsplit(graph: Graph) -> list[Finding]:
    text = "these interactions have no split, so nothing about leakage can be said; run `kglift data split` first"
    return _finding("error", "unsplit", _pairs_of(graph, UNSPLIT).to_pylist(), text)


def _shown(graph: Graph) -> list[Finding]:
    shown = _flat(pc.list_flatten(graph.sources["shown"]))
    pairs = pc.unique(_pairs(pc.struct_field(shown, "user_id"), pc.struct_field(shown, "item_id"))).drop_null()
    held_out = pairs.filter(pc.is_in(pairs, value_set=_pairs_of(graph, VALID, TEST)))
    unknown = pairs.filter(pc.invert(pc.is_in(pairs, value_set=_pairs_of(graph, TRAIN, VALID, TEST, UNSPLIT))))
    told = "were shown to the model; extract again from train interactions only, or drop those sources"
    return _finding("error", "shown_held_out", held_out.to_pylist(), f"valid or test interactions {told}") + _finding(
        "error", "shown_unknown", unknown.to_pylist(), f"interactions that this graph does not know {told}"
    )


def _restated(graph: Graph) -> list[Finding]:
    kinds = _kind_of(graph)
    held_out = _pairs_of(graph, VALID, TEST)
    by_data: set[str] = set()
    guessed: set[str] = set()
    for pairs, source in [*_triple_pairs(graph), _hyperedge_pairs(graph)]:
        hit = pc.is_in(pairs, value_set=held_out)
        for pair, origin in zip(pairs.filter(hit).to_pylist(), source.filter(hit).to_pylist(), strict=True):
            (by_data if kinds[origin] == DATASET else guessed).add(pair)
    return _finding(
        "error",
        "held_out_in_facts",
        by_data,
        "a data set states these valid or test interactions again as facts; drop the triples or hyperedges",
    ) + _finding(
        "warning",
        "held_out_guessed",
        guessed,
        "an LLM or a rule proposes these valid or test interactions; legitimate only if it saw nothing but train",
    )


def _kind_of(graph: Graph) -> dict[str, str]:
    return dict(zip(graph.sources["source"].to_pylist(), graph.sources["kind"].to_pylist(), strict=True))


def _triple_pairs(graph: Graph) -> list[tuple[pa.Array, pa.Array]]:
    triples = graph.triples
    directions = (("head", "tail"), ("tail", "head"))
    return [(_flat(_pairs(triples[a], triples[b])), _flat(triples["source"])) for a, b in directions]


def _hyperedge_pairs(graph: Graph) -> tuple[pa.Array, pa.Array]:
    members = graph.members.select(["hyperedge_id", "entity_id"])
    users = members.filter(pc.is_in(members["entity_id"], value_set=pa.array(graph.ids_of(USER), pa.string())))
    items = members.filter(pc.is_in(members["entity_id"], value_set=pa.array(graph.ids_of(ITEM), pa.string())))
    counts = users.group_by("hyperedge_id").aggregate([("entity_id", "count_distinct"), ("entity_id", "min")])
    single = counts.filter(pc.equal(counts["entity_id_count_distinct"], 1))
    joined = items.join(single, "hyperedge_id", join_type="inner").join(
        graph.hyperedges.select(["hyperedge_id", "source"]), "hyperedge_id", join_type="inner"
    )
    return _flat(_pairs(joined["entity_id_min"], joined["entity_id"])), _flat(joined["source"])


def _users(graph: Graph) -> list[Finding]:
    train = pc.unique(graph.interactions_of(TRAIN)["user_id"])
    judged = pc.unique(pa.chunked_array([graph.interactions_of(s)["user_id"].combine_chunks() for s in (VALID, TEST)]))
    cold = judged.filter(pc.invert(pc.is_in(judged, value_set=train)))
    text = "these users are judged but have no train interaction; no model can know them: drop or count them apart"
    return _finding("warning", "users_without_train", cold.to_pylist(), text)


def _items(graph: Graph) -> list[Finding]:
    known = pc.unique(graph.interactions_of(TRAIN)["item_id"])
    tested = pc.unique(graph.interactions_of(TEST)["item_id"])
    cold = tested.filter(pc.invert(pc.is_in(tested, value_set=known)))
    text = "these items have test but no train interactions; only facts, texts or features can recommend them"
    return _finding("info", "items_only_in_test", cold.to_pylist(), text)


def _orphans(graph: Graph) -> list[Finding]:
    used = _unique(
        graph.interactions["user_id"],
        graph.interactions["item_id"],
        graph.triples["head"],
        graph.triples["tail"],
        graph.members["entity_id"],
    )
    ids = _flat(graph.entities["entity_id"])
    orphans = ids.filter(pc.invert(pc.is_in(ids, value_set=used)))
    text = "these entities have no interaction, triple or hyperedge; harmless, but they count as nodes"
    return _finding("info", "orphan_entities", orphans.to_pylist(), text)


def _unique(*columns: pa.ChunkedArray) -> pa.Array:
    return pc.unique(pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.string()))


def _confidence(graph: Graph) -> list[Finding]:
    zero = graph.triples.filter(pc.equal(graph.triples["confidence"], 0.0))
    text = "these triples have confidence 0 and weigh nothing; set `min_confidence` in fusion to drop them"
    named = [" ".join(row.values()) for row in zero.select(["head", "relation", "tail"]).to_pylist()]
    return _finding("warning", "confidence_zero", named, text)


def _sources(graph: Graph) -> list[Finding]:
    used = _unique(graph.triples["source"], graph.hyperedges["source"], graph.texts["source"])
    ids = _flat(graph.sources["source"])
    idle = ids.filter(pc.invert(pc.is_in(ids, value_set=used)))
    bare = graph.sources.filter(pc.and_(pc.equal(graph.sources["kind"], LLM), pc.is_null(graph.sources["reply_sha"])))[
        "source"
    ]
    blind = [s for t in (graph.triples, graph.hyperedges, graph.texts) for s in _within(t["source"], bare)]
    return _finding(
        "info", "sources_without_facts", idle.to_pylist(), "nothing comes from these sources; harmless"
    ) + _finding(
        "warning",
        "llm_facts_without_reply",
        blind,
        "these LLM sources name no reply (reply_sha), so their facts cannot be traced; extract again",
    )


def _within(column: pa.ChunkedArray, wanted: pa.ChunkedArray) -> list[str]:
    found: list[str] = column.filter(pc.is_in(column, value_set=wanted.combine_chunks())).to_pylist()
    return found


_LOOKS: tuple[Callable[[Graph], list[Finding]], ...] = (
    *(_unsplit, _shown, _restated),
    *(_users, _items, _orphans, _confidence, _sources),
)
