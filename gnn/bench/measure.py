"""The stopwatch: contenders run in turn (A B C A B C ...) in one process, so that the machine's moods hit all alike."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from gnn.bench.peak import extra_peak
from gnn.bench.row import Machine, Row, Timing, make_rows
from gnn.bench.setting import Setting
from gnn.bench.task import Contender, Task
from kg.progress import Progress, silent

_COPY_BYTES = 1 << 30
_TOY_BYTES = 1 << 16
_SIDE = 2048
_N_COPIES = 7
_SHORT_S = 1.0
_MOST_RUNS = 10


def run_tasks(
    tasks: Sequence[type[Task]], setting: Setting, machine: Machine, repeats: int, progress: Progress = silent
) -> Iterator[list[Row]]:
    """Measure tasks one after another.

    Args:
        tasks: what is timed.
        setting: where.
        machine: what floors are computed with.
        repeats: of every contender; a task may do with fewer.
        progress: told before each run of a contender.

    Yields:
        The rows of a task, when it is done.
    """
    for member in tasks:
        yield measure_task(member(), setting, machine, min(repeats, member.most_repeats), progress)


def measure_task(
    task: Task, setting: Setting, machine: Machine, repeats: int, progress: Progress = silent
) -> list[Row]:
    """Time the contenders of one task in turn, after each ran once to warm up.

    What the first run returned is compared with what the first contender's did; the row says what differs.
    """
    contenders = list(task.contenders(setting))
    try:
        timings = _warm_up(task, [c for c in contenders if not c.absent], progress)
        for repeat in range(repeats):
            for place, timing in enumerate(timings):
                note = f"{task.name}, {timing.contender.name}"
                progress(repeat * len(timings) + place, repeats * len(timings), note)
                timing.seconds.append(_time(timing.contender, setting.device))
        timings = [dataclasses.replace(t, extra_bytes=_extra(task, t, setting)) for t in timings]
    finally:
        for contender in contenders:
            contender.stop()
    place_of_run = (setting.device, setting.n_threads)
    absent = {contender.name: contender.absent for contender in contenders if contender.absent}
    return make_rows(task.name, place_of_run, timings, absent, machine)


def measure_machine(setting: Setting) -> Machine:
    """Measure what floors are computed with: a copy between arrays of 1 GiB, and a float32 matrix product.

    Bandwidth counts what is read and what is written. Both are medians.
    """
    size = _TOY_BYTES if setting.is_toy else _COPY_BYTES
    source = torch.ones(size // 4, device=setting.device)
    target = torch.empty_like(source)
    copies = _repeat(lambda: target.copy_(source), setting.device)
    side = 64 if setting.is_toy else _SIDE
    square = torch.ones(side, side, device=setting.device)
    products = _repeat(lambda: square @ square, setting.device)
    return Machine(2 * size / statistics.median(copies), 2 * side**3 / statistics.median(products))


def _repeat(run: Callable[[], object], device: str) -> list[float]:
    run()
    return [_seconds(run, device) for _ in range(_N_COPIES)]


def _warm_up(task: Task, contenders: list[Contender], progress: Progress) -> list[Timing]:
    timings: list[Timing] = []
    first: object = None
    for place, contender in enumerate(contenders):
        progress(place, len(contenders), f"{task.name}, warming up {contender.name}")
        results = [part.run() for part in contender.parts]
        first = results[0] if place == 0 else first
        timings.append(Timing(contender, difference=task.difference(first, results[0])))
    return timings


def _time(contender: Contender, device: str) -> float:
    return sum(part.times * _steady_seconds(part.run, device) for part in contender.parts)


def _steady_seconds(run: Callable[[], object], device: str) -> float:
    """Time a run; of a short one, the median of some that follow it.

    Steps of training follow one another, while here a peer has just filled the caches with its own data. A run of a
    second and more moves so much that this makes no difference.
    """
    first = _seconds(run, device)
    if first >= _SHORT_S:
        return first
    return statistics.median(_seconds(run, device) for _ in range(min(_MOST_RUNS, 1 + int(_SHORT_S / first))))


def _seconds(run: Callable[[], object], device: str) -> float:
    if device != "cuda":
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def _extra(task: Task, timing: Timing, setting: Setting) -> int | None:
    return extra_peak(task.name, timing.contender.name, setting) if timing.contender.has_peak else None
