"""Progress bars of the command line: counts, rate and time left; plain lines where there is no terminal."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from kg.progress import Progress as Report
from kg.progress import silent

console = Console(stderr=True)
_LINE_EVERY_S = 10.0


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Draw the speed, e.g. `3.1/s`."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.1f}/s" if speed else "-/s", style="progress.data.speed")


@contextmanager
def progress_bar(title: str, *, quiet: bool = False) -> Iterator[Report]:
    """Yield a `kg.progress.Progress` that draws a bar called `title` on stderr."""
    if quiet:
        yield silent
    elif console.is_terminal:
        with _bar() as bar:
            task = bar.add_task(title, total=None, note="")

            def report(done: int, total: int | None, note: str = "") -> None:
                bar.update(task, completed=done, total=total, note=note)

            yield report
    else:
        yield _plain_lines(title)


def _bar() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


def _plain_lines(title: str) -> Report:
    """Report a line every ten seconds and one at the end, for logs."""
    start = last = time.monotonic()

    def report(done: int, total: int | None, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _LINE_EVERY_S and done != total:
            return
        last = now
        rate = done / max(now - start, 1e-9)
        left = f", {(total - done) / rate:,.0f} s left" if total and rate else ""
        console.print(f"{title}: {done}/{total or '?'} ({rate:,.1f}/s{left}) {note}".rstrip(), highlight=False)

    return report
