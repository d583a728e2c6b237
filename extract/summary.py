"""What an extraction did: every unit, reply, fact and rejected part, counted."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from extract.chain import storable
from extract.ground import AMBIGUOUS, NOT_IN_CATALOGUE
from extract.method import Rejected

_N_EXAMPLES = 3
_MAX_EXAMPLE = 200


@dataclass(frozen=True)
class Reason:
    """How often something was turned down for one reason, with the first three examples."""

    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """What an extraction did.

    Every unit is in one state: `total = done + empty + rejected + set_aside`; and was either asked in this run or
    served by the ledger: `total = asked + cached`.

    Attributes:
        method: name of the method.
        model: identity of the model.
        runs: addresses of its runs in the ledger, one for each step that asks something else.
        prompt: name of the prompt.
        prompt_version: version of the prompt.
        total: units.
        done: units that gave facts.
        empty: units whose valid reply said nothing.
        rejected: units whose valid reply held nothing that could be kept.
        set_aside: units without a valid reply.
        cached: units for which nothing was sent in this run.
        asked: units for which something was sent in this run.
        calls: replies that came back in this run, valid or not.
        repaired: units whose last reply was valid only after its form was mended.
        retries: requests sent again after a passing error.
        set_aside_reasons: why units were set aside, by code; the examples name the units.
        rejects: parts of replies that became no fact, by code.
        grounded: names that a method looked up in the catalogue and found there.
        duplicates: rows that said what another row had said.
        prompt_tokens: read in this run.
        completion_tokens: written in this run.
        cost: of this run, in the currency of the configured prices.
        paid_replies: replies that this run has paid for, in all processes and on all days; a reply that another run
            had paid for counts there alone.
        estimated_replies: those of them whose tokens are estimated from their length, since the server did not say.
        paid_tokens: their prompt and completion tokens.
        paid_cost: their cost.
        seconds: how long the asking took.
        tokens_per_s: completion tokens a second, in this run.
        facts: table -> relation, kind, type or role -> rows in the result.
    """

    method: str
    model: str
    runs: tuple[str, ...]
    prompt: str
    prompt_version: str
    total: int
    done: int
    empty: int
    rejected: int
    set_aside: int
    cached: int
    asked: int
    calls: int
    repaired: int
    retries: int
    set_aside_reasons: Mapping[str, Reason]
    rejects: Mapping[str, Reason]
    grounded: int
    duplicates: int
    prompt_tokens: int
    completion_tokens: int
    cost: float
    paid_replies: int
    estimated_replies: int
    paid_tokens: int
    paid_cost: float
    seconds: float
    tokens_per_s: float
    facts: Mapping[str, Mapping[str, int]]

    @property
    def ungrounded_share(self) -> float | None:
        """Share of the names that were looked up in the catalogue and are absent or ambiguous; None if none was."""
        refused = sum(self.rejects[code].count for code in (NOT_IN_CATALOGUE, AMBIGUOUS) if code in self.rejects)
        return refused / (refused + self.grounded) if refused + self.grounded else None

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as plain JSON values, with the examples."""
        return asdict(self) | {
            "runs": list(self.runs),
            "ungrounded_share": self.ungrounded_share,
            "set_aside_reasons": _plain(self.set_aside_reasons),
            "rejects": _plain(self.rejects),
            "facts": {table: dict(counts) for table, counts in self.facts.items()},
        }


@dataclass
class Tally:
    """Counts reasons and keeps the first examples of each; memory does not grow with what is counted."""

    _counts: Counter[str] = field(default_factory=Counter)
    _examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, rejected: Iterable[Rejected]) -> None:
        """Count rejected things."""
        for one in rejected:
            self._counts[one.reason] += 1
            if len(self._examples[one.reason]) < _N_EXAMPLES:
                self._examples[one.reason].append(storable(one.what[:_MAX_EXAMPLE]))

    def reasons(self) -> dict[str, Reason]:
        """Return the counts by reason, the most frequent first."""
        ordered = sorted(self._counts.items(), key=lambda pair: (-pair[1], pair[0]))
        return {reason: Reason(count, tuple(self._examples[reason])) for reason, count in ordered}


def _plain(reasons: Mapping[str, Reason]) -> dict[str, dict[str, Any]]:
    return {code: {"count": r.count, "examples": list(r.examples)} for code, r in reasons.items()}
