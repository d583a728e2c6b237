"""How long work reports how far it is, without knowing who watches."""

from typing import Protocol


class Progress(Protocol):
    """Called as work goes on; the front door draws a bar from it, a test counts, `silent` ignores it."""

    def __call__(self, done: int, total: int | None, note: str = "") -> None:
        """Report progress.

        Args:
            done: how many are done.
            total: of how many; None where unknown.
            note: a few words on the state, e.g. counts of failed units or the current loss.
        """


def silent(done: int, total: int | None, note: str = "") -> None:
    """Report to nobody."""
