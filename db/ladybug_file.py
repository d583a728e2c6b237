"""The file of an embedded store: one user at a time, and clear words for what LadybugDB says about it."""

import shutil
import sys
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
from kg.errors import ConfigError, WriteError
from kg.files import whole_file

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

    @contextmanager
    def opened(self, *, read_only: bool) -> Iterator[Any]:
        """Open the file: whoever writes has it alone, readers share it. For writing, it is made where there is none.

        Raises:
            StoreUnreachableError: if another process has it for longer than `wait_s`, or it cannot be read.
            StoreFormatError: if it is no file of LadybugDB.
            RuntimeError: LadybugDB's own, if it cannot be written.
        """
        deadline = time.monotonic() + self.config.wait_s
        with ExitStack() as held:
            while True:
                try:
                    database = self._open_now(held, read_only=read_only)
                    break
                except StoreUnreachableError as error:
                    if "in use by another process" not in str(error) or time.monotonic() >= deadline:
                        raise
                time.sleep(_LOOK_AGAIN_S)
            yield database

    def _open_now(self, held: ExitStack, *, read_only: bool) -> Any:
        with ExitStack() as trying:
            before = self._stamp() if read_only else None
            database = trying.enter_context(closing(self._database(read_only=read_only)))
            if read_only and sys.platform != "win32":
                trying.enter_context(self._locked_for_reading(before))
            held.push(trying.pop_all())
        return database

    def _database(self, *, read_only: bool) -> Any:
        try:
            return ladybug.Database(
                self.path, read_only=read_only, buffer_pool_size=self.config.buffer_size_bytes, backend="pybind"
            )
        except RuntimeError as error:
            text = one_line(error)
            if "Could not set lock" in text:
                raise self._in_use(text) from error
            if "not a valid" in text or "cannot be a directory" in text:
                msg = f"`{self.path}` is no LadybugDB file ({text}); give the path of a store, or a new one"
                raise StoreFormatError(msg) from error
            if not read_only:
                raise
            msg = f"cannot open `{self.path}`: {text}; see who may read it and whether it is damaged"
            raise StoreUnreachableError(msg) from error

    @contextmanager
    def _locked_for_reading(self, before: object) -> Iterator[None]:
        """Keep the writers of other processes waiting: LadybugDB's readers take no lock and would read half of a write.

        It comes after LadybugDB has opened the file, which closes it once and so gives up the locks of the process.
        """
        import fcntl

        with self.path.open("rb") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError as error:
                raise self._in_use(str(error.strerror)) from error
            if self._stamp() != before:
                why = "it was written while it was opened"
                raise self._in_use(why)
            yield

    def _stamp(self) -> object:
        found = self.path.stat() if self.path.exists() else None
        return found and (found.st_ino, found.st_size, found.st_mtime_ns)

    def _in_use(self, why: str) -> StoreUnreachableError:
        return StoreUnreachableError(
            f"`{self.path}` is in use by another process ({why}); close it or wait, then repeat"
        )

    def dump(self, file: Path) -> None:
        """Copy the whole store into another file, which is whole or absent.

        Raises:
            StoreFormatError: if there is no store.
            StoreWriteError: if it cannot be written, e.g. for want of space.
        """
        if not self.path.exists():
            msg = f"there is no store at `{self.path}` to dump; load a graph first"
            raise StoreFormatError(msg)
        with self.alone(), self.opened(read_only=False) as database:
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
        with LadybugFile(LadybugConfig(file)).opened(read_only=True):
            pass  # it is a file of LadybugDB
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.alone(), ExitStack() as held:
            if self.path.exists():
                held.enter_context(self.opened(read_only=False))  # nobody else has it
            copy_whole(file, self.path)


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file so that the target is whole or what it was before.

    Raises:
        StoreWriteError: if it cannot be written.
    """
    try:
        with source.open("rb") as reader, whole_file(target, overwrite=True) as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
    except WriteError as error:
        raise StoreWriteError(str(error)) from error


def one_line(error: BaseException) -> str:
    """Return what an error says, in one line."""
    return " ".join(str(error).split())
