"""The contract of a benchmark task: contenders that do the same work, ours and others, and the bars that must hold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from gnn.bench.setting import Setting
from kg.registry import Registered

Unit = Literal["ratio", "floors", "ms", "extra_bytes"]


@dataclass(frozen=True)
class Part:
    """A piece of work that is timed, and how often the task does it.

    Attributes:
        run: does it once; what it returns is compared between contenders, before anything is timed.
        times: the time is multiplied by this: 396 where one step stands for an epoch of 396. 1 is no extrapolation.
    """

    run: Callable[[], object]
    times: float = 1.0


@dataclass(frozen=True)
class Contender:
    """One way to do the work of a task.

    Attributes:
        name: the route of ours (`fused`, `compiled`, `torch`, ...) or the name of a peer.
        parts: what is timed; the time of the contender is the sum of times * seconds.
        is_peer: someone else's way, timed beside ours.
        size_bytes: what it must move at least; a task says by which formula. None where that bounds nothing.
        n_flops: multiplications and additions that it must do at least; None where they bound nothing.
        has_peak: also measure the memory that it takes beyond what was there before, in a process of its own.
        note: what a reader of the row must know.
        stop: called when the task is done, e.g. to end a process.
        absent: why this peer cannot take part, e.g. `not installed`; its rows say so.
    """

    name: str
    parts: tuple[Part, ...]
    is_peer: bool = False
    size_bytes: int | None = None
    n_flops: int | None = None
    has_peak: bool = False
    note: str = ""
    stop: Callable[[], object] = lambda: None
    absent: str = ""

    @property
    def is_extrapolated(self) -> bool:
        """Whether a part stands for several of its kind."""
        return any(part.times != 1 for part in self.parts)


@dataclass(frozen=True)
class Bar:
    """What must hold of a row.

    Attributes:
        route: of ours.
        unit: `ratio` = the peer's time over ours; `floors` = our time over the floor; `ms`; `extra_bytes`.
        limit: at least this for a ratio, at most this for the rest.
        peer: whose row, for a ratio.
        device: where the bar stands, `cpu` or `cuda`.
    """

    route: str
    unit: Unit
    limit: float
    peer: str | None = None
    device: str = "cpu"


class Task(Registered, package="gnn.bench"):
    """Work that is timed; a member is one file in `gnn/bench/`.

    Attributes:
        bars: what must hold of the rows.
        reads_data: whether it takes the graph of the setting; False where it makes one of its own.
        most_repeats: repeat at most so often, however often the command line asks: for tasks that take long.
    """

    bars: ClassVar[tuple[Bar, ...]] = ()
    reads_data: ClassVar[bool] = True
    most_repeats: ClassVar[int] = 100

    def contenders(self, setting: Setting) -> Sequence[Contender]:
        """Return who takes part, ready to run.

        The first is one of ours; the results of the others are compared with its result by `difference`.
        """
        raise NotImplementedError

    def difference(self, ours: object, theirs: object) -> str:
        """Say how the result of another contender differs from that of the first.

        Args:
            ours: what the first contender's first part returned before anything was timed.
            theirs: what the other's did.

        Returns:
            "" where they are equal, or one is NaN: there is nothing to compare.
        """
        if not isinstance(ours, Tensor) or not isinstance(theirs, Tensor) or ours.numel() != 1:
            return ""
        first, other = float(ours), float(theirs)
        return f"gives {other:.6g}, ours {first:.6g}" if abs(first - other) > 1e-4 * abs(first) else ""
