"""The event loop that the engine runs in."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import TypeVar

T = TypeVar("T")

_NEW_OBJECTS = 20_000


def run_in_loop(work: Coroutine[object, object, T]) -> T:
    """Run a coroutine to its end in a loop of its own.

    What is in memory before is kept from the garbage collector meanwhile: libraries and data sets are some hundred
    thousand objects, and going through them again and again took an eighth of the engine's time. For new objects it
    comes more seldom, when more of them have gone by themselves.
    """
    is_ours = gc.get_freeze_count() == 0
    thresholds = gc.get_threshold()
    if is_ours:
        gc.freeze()
        gc.set_threshold(_NEW_OBJECTS, *thresholds[1:])
    try:
        with asyncio.Runner(loop_factory=fast_loop()) as runner:
            return runner.run(work)
    finally:
        if is_ours:
            gc.unfreeze()
            gc.set_threshold(*thresholds)


def fast_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes an event loop: uvloop's where that is to be had, which is not the case on Windows."""
    try:
        from uvloop import new_event_loop
    except ModuleNotFoundError:
        return asyncio.new_event_loop
    return new_event_loop
