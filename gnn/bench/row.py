"""A row of the benchmark: one way of ours to do a task, beside one peer."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from gnn.bench.task import Bar, Contender

Kind = Literal["measured", "extrapolated", "predicted"]


@dataclass(frozen=True)
class Row:
    """One way of ours to do a task, beside one peer; what was not measured is None.

    Attributes:
        task: its name.
        route: of ours.
        device: `cpu`, `cuda`, or the device that a prediction is for.
        threads: of the CPU.
        ms: median of `n` repeats.
        bytes: what must be moved at least.
        floor_ms: the longer of bytes / bandwidth and operations / operations per second, both of the same run.
        peer: who else did it; None where there is nobody to compare with.
        peer_ms: its median, measured in the same run, in turn with ours.
        ratio: peer_ms / ms.
        min_ms: the shortest repeat.
        max_ms: the longest.
        peer_min_ms: the peer's shortest.
        peer_max_ms: the peer's longest.
        n: number of repeats.
        extra_bytes: the most memory that it took beyond what was there before.
        kind: whether `ms` was measured whole, extrapolated from a part, or predicted.
        peer_kind: the same of `peer_ms`.
        note: what a reader must know.
    """

    task: str
    route: str
    device: str
    threads: int | None
    ms: float | None
    bytes: int | None = None
    floor_ms: float | None = None
    peer: str | None = None
    peer_ms: float | None = None
    ratio: float | None = None
    min_ms: float | None = None
    max_ms: float | None = None
    peer_min_ms: float | None = None
    peer_max_ms: float | None = None
    n: int = 0
    extra_bytes: int | None = None
    kind: Kind = "measured"
    peer_kind: Kind | None = None
    note: str = ""

    @property
    def floors(self) -> float | None:
        """How many times the floor it takes."""
        return self.ms / self.floor_ms if self.ms and self.floor_ms else None


@dataclass(frozen=True)
class Timing:
    """What was measured of one contender.

    Attributes:
        contender: who.
        seconds: of each repeat.
        difference: how its result differs from that of the first contender.
        extra_bytes: see `Row`.
    """

    contender: Contender
    seconds: list[float] = field(default_factory=list)
    difference: str = ""
    extra_bytes: int | None = None

    @property
    def kind(self) -> Kind:
        """Measured whole, or extrapolated."""
        return "extrapolated" if self.contender.is_extrapolated else "measured"

    def milliseconds(self) -> tuple[float, float, float]:
        """Return median, shortest and longest."""
        times = [1e3 * s for s in self.seconds]
        return statistics.median(times), min(times), max(times)


@dataclass(frozen=True)
class Machine:
    """What the machine can do at best, measured in the run.

    Attributes:
        bandwidth: bytes read and written in a second by a copy.
        flop_rate: operations in a second by a float32 matrix product.
    """

    bandwidth: float
    flop_rate: float

    def floor_ms(self, contender: Contender) -> float | None:
        """Return the least time that the bytes and operations of a contender allow; None if neither is known."""
        floors = [
            1e3 * amount / rate
            for amount, rate in ((contender.size_bytes, self.bandwidth), (contender.n_flops, self.flop_rate))
            if amount is not None
        ]
        return max(floors, default=None)


def make_rows(
    task: str, place: tuple[str, int], timings: Sequence[Timing], absent: dict[str, str], machine: Machine
) -> list[Row]:
    """Put every way of ours beside every peer.

    Args:
        task: its name.
        place: device and number of threads.
        timings: of all contenders of the task.
        absent: peer -> why it could not take part.
        machine: what floors are computed with.
    """
    peers = [t for t in timings if t.contender.is_peer]
    rows = []
    for own in (t for t in timings if not t.contender.is_peer):
        alone = [] if peers else [_row(task, place, own, None, machine)]
        beside = [_row(task, place, own, peer, machine) for peer in peers]
        rows += alone + beside + [_row(task, place, own, None, machine, absent=gone) for gone in absent.items()]
    return rows


def _row(
    task: str,
    place: tuple[str, int],
    own: Timing,
    peer: Timing | None,
    machine: Machine,
    *,
    absent: tuple[str, str] | None = None,
) -> Row:
    ms, low, high = own.milliseconds()
    notes = [own.contender.note, own.difference]
    beside: dict[str, object] = {}
    if peer is not None:
        peer_ms, peer_low, peer_high = peer.milliseconds()
        beside = {"peer": peer.contender.name, "peer_ms": peer_ms, "peer_min_ms": peer_low, "peer_max_ms": peer_high}
        beside |= {"ratio": peer_ms / ms, "peer_kind": peer.kind}
        notes += [f"{peer.contender.name}: {text}" for text in (peer.contender.note, peer.difference) if text]
    elif absent is not None:
        beside = {"peer": absent[0]}
        notes.append(f"{absent[0]}: {absent[1]}")
    return Row(
        task=task,
        route=own.contender.name,
        device=place[0],
        threads=place[1],
        ms=ms,
        bytes=own.contender.size_bytes,
        floor_ms=machine.floor_ms(own.contender),
        min_ms=low,
        max_ms=high,
        n=len(own.seconds),
        extra_bytes=own.extra_bytes,
        kind=own.kind,
        note="; ".join(note for note in notes if note),
        **beside,  # type: ignore[arg-type]
    )


def missed(task: str, bar: Bar, rows: Sequence[Row]) -> str:
    """Say how a bar is missed; "" where it holds.

    Args:
        task: whose bar.
        bar: what must hold.
        rows: of any tasks.
    """
    mine = [r for r in rows if (r.task, r.route, r.device) == (task, bar.route, bar.device)]
    mine = [r for r in mine if bar.peer is None or r.peer == bar.peer]
    values = [value for r in mine if (value := getattr(r, bar.unit)) is not None]
    sign = ">=" if bar.unit == "ratio" else "<="
    beside = f" to {bar.peer}" if bar.peer else ""
    wanted = f"{task}, {bar.route}: {bar.unit}{beside} {sign} {bar.limit:g}"
    if not values:
        return f"{wanted}, not measured"
    holds = values[0] >= bar.limit if bar.unit == "ratio" else values[0] <= bar.limit
    return "" if holds else f"{wanted}, got {values[0]:.4g}"
