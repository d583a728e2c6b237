"""The file of an embedded store: one user at a time, and clear words for what LadybugDB says about it."""

import os
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ladybug
import ladybug._lbug  # as a module of its own: else its symbols are everybody's, and llama.cpp aborts on them

from db.errors import StoreFormatError, StoreUnreachableError, StoreWriteError
from kg.errors import ConfigError

_IN_USE: defaultdict[Path, threading.RLock] = defaultdict(threading.RLock)
"""LadybugDB's lock on its file holds between processes, and is lost when any thread of a process closes the file."""
_LOOK_AGAIN_S = 0.05


@dataclass(frozen=True)
class LadybugConfig:
    """Where the store lies and what it may use.

    Attributes:
        path: the database file; it and its folder are made by the first write.
        buffer_size_bytes: the most memory for pages; more data than that is spilled to disk.
        wait_s: how long to wait while somebody else has the file; 0 for not at all.
    """

    path: Path = Path("kglift.lbug")
    buffer_size_bytes: int = 2 << 30
    wait_s: float = 60.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.buffer_size_bytes < 64 << 20:
            msg = f"`buffer_size_bytes` is {self.buffer_size_bytes}; expected at least {64 << 20} (64 MiB)"
            raise ConfigError(msg)
        if self.wait_s < 0:
            msg = f"`wait_s` is {self.wait_s}; expected seconds, at least 0"
            raise ConfigError(msg)


class LadybugFile:
    """One LadybugDB file, opened for each piece of work and closed again."""

    def __init__(self, config: LadybugConfig) -> None:
        self.config = config
        self.path = Path(config.path).expanduser().absolute()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other threads of this process from the file; the same thread may enter again.

        Raises:
            StoreUnreachableError: if another thread has it for longer than `wait_s`.
        """
        lock = _IN_USE[self.path.resolve()]
        if not lock.acquire(timeout=self.config.wait_s):
            msg = (
                f"`{self.path}` is in use by another thread of this process, since {self.config.wait_s:g} s; "
                "wait for it, then repeat"
            )
            raise StoreUnreachableError(msg)
        try:
            yield
        finally:
            lock.release()

    def open(self, *, read_only: bool) -> Any:
        """Open the file, when no other process writes it; for writing, it is made where there is none.

        Raises:
            StoreUnreachableError: if another process has it for longer than `wait_s`, or it cannot be read.
            StoreFormatError: if it is no file of LadybugDB.
            RuntimeError: LadybugDB's own, if it cannot be written.
        """
        deadline = time.monotonic() + self.config.wait_s
        while True:
            try:
                return self._open_now(read_only=read_only)
            except StoreUnreachableError as error:
                if "in use by another process" not in str(error) or time.monotonic() >= deadline:
                    raise
            time.sleep(_LOOK_AGAIN_S)

    def _open_now(self, *, read_only: bool) -> Any:
        try:
            return ladybug.Database(
                self.path, read_only=read_only, buffer_pool_size=self.config.buffer_size_bytes, backend="pybind"
            )
        except RuntimeError as error:
            text = one_line(error)
            if "Could not set lock" in text:
                msg = f"`{self.path}` is in use by another process ({text}); close it or wait, then repeat"
                raise StoreUnreachableError(msg) from error
            if "not a valid" in text or "cannot be a directory" in text:
                msg = f"`{self.path}` is no LadybugDB file ({text}); give the path of a store, or a new one"
                raise StoreFormatError(msg) from error
            if not read_only:
                raise
            msg = f"cannot open `{self.path}`: {text}; see who may read it and whether it is damaged"
            raise StoreUnreachableError(msg) from error

    def dump(self, file: Path) -> None:
        """Copy the whole store into another file, which is whole or absent.

        Raises:
            StoreFormatError: if there is no store.
            StoreWriteError: if it cannot be written, e.g. for want of space.
        """
        if not self.path.exists():
            msg = f"there is no store at `{self.path}` to dump; load a graph first"
            raise StoreFormatError(msg)
        with self.alone(), closing(self.open(read_only=False)) as database:
            with closing(ladybug.Connection(database)) as connection:
                connection.execute("CHECKPOINT")  # what lies beside the file goes into it
            copy_whole(self.path, file)

    def restore(self, file: Path, *, overwrite: bool = False) -> None:
        """Make the store again from what `dump` wrote; it is the old or the new one, nothing between.

        Raises:
            StoreFormatError: if the file is no LadybugDB file.
            StoreWriteError: if there is a store and `overwrite` is not given, or the disk is full.
        """
        if self.path.exists() and not overwrite:
            msg = f"there is a store at `{self.path}`; give --overwrite to replace it, or another path"
            raise StoreWriteError(msg)
        if not file.is_file():
            msg = f"there is no dump `{file}`; give the file that `dump` wrote"
            raise StoreFormatError(msg)
        with closing(LadybugFile(LadybugConfig(file)).open(read_only=True)):
            pass  # it is a file of LadybugDB
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.alone(), ExitStack() as held:
            if self.path.exists():
                held.enter_context(closing(self.open(read_only=False)))  # nobody else has it
            copy_whole(file, self.path)


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file so that the target is whole or what it was before.

    Raises:
        StoreWriteError: if it cannot be written.
    """
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    try:
        with source.open("rb") as reader, partial.open("wb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())
        partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        msg = f"cannot write `{target}`: {error.strerror}; free some space or go elsewhere"
        raise StoreWriteError(msg) from error


def one_line(error: BaseException) -> str:
    """Return what an error says, in one line."""
    return " ".join(str(error).split())
