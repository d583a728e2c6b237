"""How graphs are fused, and what a fusion reports."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kg.errors import ConfigError
from kg.resolve import ResolveConfig


@dataclass(frozen=True)
class FuseConfig:
    """How graphs are fused.

    Attributes:
        min_confidence: triples below this are dropped, in [0, 1]; each source's row is judged by itself.
        functional: relations with at most one tail for each head; more are kept and reported as conflicts.
        is_resolving: merge entities of one type and name; see `kg.resolve`.
        max_cluster: the largest group of entities that is merged.
        min_name_similarity: cosine of letter trigrams from which two names are one, in [0.5, 1]; 1: equal names only,
            as `kg.resolve` brings them to one form. See `kg.similar_names`.
        min_meaning: cosine of a sentence encoder's vectors from which two names that are somewhat alike by letters are
            one, in [0, 1]; 1: no encoder is asked. See `kg.similar_names`.
        decisions: a file of stored decisions, applied in place of resolving; see `kg.resolve.Resolution`.

    Raises:
        ConfigError: if a value is out of range.
    """

    min_confidence: float = 0.0
    functional: tuple[str, ...] = ()
    is_resolving: bool = True
    max_cluster: int = 20
    min_name_similarity: float = 1.0
    min_meaning: float = 1.0
    decisions: Path | None = None

    def __post_init__(self) -> None:
        """Check ranges."""
        for name, least in (("min_confidence", 0.0), ("min_name_similarity", 0.5), ("min_meaning", 0.0)):
            if not least <= getattr(self, name) <= 1.0:
                msg = f"{name} is {getattr(self, name)}; expected a number in [{least:g}, 1]"
                raise ConfigError(msg)
        ResolveConfig(self.max_cluster)


@dataclass(frozen=True)
class FusionReport:
    """What fusion did.

    Attributes:
        base: rows of each table of the base.
        before: rows of each table over the base and all fragments.
        after: rows of each table of the result.
        merged: `{entity_id, canonical_id, reason}` of each entity that went into another.
        too_large: groups of namesakes that were left alone because they exceed `max_cluster`.
        corroborated: facts (head, relation, tail) that more than one source states; each keeps all its sources.
        duplicates: table -> rows that said again what another row of the same key says.
        conflicts: `{kind, head, relation, values}`; kind `functional` (several tails), `entity` (one id, several types
            or names; the base's row is kept, else the smallest) or `namesakes` (ids of one name, of which data sets
            state several; none was merged).
        dropped: `{table, row, reason}` of each row that was left out, reason `low_confidence` or `self_loop`.
    """

    base: dict[str, int]
    before: dict[str, int]
    after: dict[str, int]
    merged: list[dict[str, str]] = field(default_factory=list)
    too_large: list[list[str]] = field(default_factory=list)
    corroborated: int = 0
    duplicates: dict[str, int] = field(default_factory=dict)
    conflicts: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[dict[str, Any]] = field(default_factory=list)

    def numbers(self) -> dict[str, int]:
        """Return how much was merged, left alone, stated twice, in conflict and dropped."""
        conflicts = Counter(row["kind"] for row in self.conflicts)
        dropped = Counter(row["reason"] for row in self.dropped)
        return {
            "entities merged into others": len(self.merged),
            "groups of namesakes too large to merge": len(self.too_large),
            "facts of several sources": self.corroborated,
            **{f"conflicts: {kind}": count for kind, count in sorted(conflicts.items())},
            **{f"rows dropped: {reason}": count for reason, count in sorted(dropped.items())},
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with `dropped_by_reason` counted."""
        return {**asdict(self), "dropped_by_reason": dict(Counter(row["reason"] for row in self.dropped))}
