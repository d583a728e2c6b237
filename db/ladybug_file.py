"""The file of an embedded store: one user at a time, and clear words for what LadybugDB says about it."""

import logging
import os
import shutil
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ladybug
import ladybug._lbug  # as a module of its own: else its symbols are everybody's, and llama.cpp aborts on them

from db.errors import StoreFormatError, StoreUnreachableError, StoreWriteError
from db.model import STORE_VERSION
from kg.errors import ConfigError, WriteError
from kg.files import whole_file

_IN_USE: defaultdict[Path, threading.RLock] = defaultdict(threading.RLock)
"""LadybugDB's lock on its file holds between processes, and is lost when any thread of a process closes the file."""
_LOOK_AGAIN_S = 0.05
_LOG = logging.getLogger(__name__)
_PENDING = "checkpoint recovery is pending"
_TORN = ("WAL file is corrupted", "Corrupted wal file", ".wal with size")
_LOGS = (".wal", ".wal.checkpoint", ".shadow")
_RESERVE_BYTES = 1 << 20


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

        What a writer that was killed or had no room left behind is mended first: what it had committed is finished, the
        rest undone.

        Raises:
            StoreUnreachableError: if another process has it for longer than `wait_s`, or it cannot be read.
            StoreFormatError: if it is no file of LadybugDB.
            RuntimeError: LadybugDB's own, if it cannot be written.
        """
        deadline = time.monotonic() + self.config.wait_s
        is_mended = not read_only
        with ExitStack() as held:
            while True:
                try:
                    database = self._open_now(held, read_only=read_only)
                    break
                except StoreUnreachableError as error:
                    if not is_mended and _is_unfinished(str(error)):
                        self._mend()
                        is_mended = True
                        continue
                    if "in use by another process" not in str(error) or time.monotonic() >= deadline:
                        raise
                time.sleep(_LOOK_AGAIN_S)
            yield database

    @contextmanager
    def opened_to_write(self) -> Iterator[Any]:
        """Open the file for a transaction, with some room on the disk in reserve.

        LadybugDB ends the process where it has no room to close the file after a failed write.

        Raises:
            OSError: if there is no such room, and as `opened`.
        """
        with self.opened(read_only=False) as database:
            reserve = self._beside(".reserve")
            try:
                reserve.write_bytes(bytes(_RESERVE_BYTES))
                yield database
            finally:
                reserve.unlink(missing_ok=True)

    def _open_now(self, held: ExitStack, *, read_only: bool) -> Any:
        with ExitStack() as trying:
            before = self._stamp() if read_only else None
            database = trying.enter_context(closing(self._database(read_only=read_only)))
            if read_only and sys.platform != "win32":
                trying.enter_context(self._locked_for_reading(before))
            held.push(trying.pop_all())
        return database

    def _mend(self) -> None:
        try:
            with self.opened(read_only=False) as database, closing(ladybug.Connection(database)) as connection:
                connection.execute("CALL force_checkpoint_on_close=false")  # it needs room, and readers need none of it
        except RuntimeError as error:
            raise self._cannot_open(one_line(error)) from error

    def _database(self, *, read_only: bool, is_torn: bool = False) -> Any:
        if not read_only and not self.path.exists():
            self._remove_logs()  # they are of a file that was removed
        try:
            return ladybug.Database(
                self.path,
                read_only=read_only,
                buffer_pool_size=self.config.buffer_size_bytes,
                throw_on_wal_replay_failure=not is_torn,
                backend="pybind",
            )
        except RuntimeError as error:
            text = one_line(error)
            if not read_only and not is_torn and _is_unfinished(text):
                self._keep_torn_log()
                return self._database(read_only=False, is_torn=True)
            if "Could not set lock" in text:
                raise self._in_use(text) from error
            if "not a valid" in text or "cannot be a directory" in text:
                msg = f"`{self.path}` is no LadybugDB file ({text}); give the path of a store, or a new one"
                raise StoreFormatError(msg) from error
            if not read_only:
                raise
            raise self._cannot_open(text) from error

    def _keep_torn_log(self) -> None:
        log, kept = self._beside(".wal"), self._beside(".wal.torn")
        copy_whole(log, kept)
        _LOG.warning("the last write to `%s` was broken off and is undone; its log is kept as `%s`", self.path, kept)

    def _remove_logs(self) -> None:
        for ending in _LOGS:
            self._beside(ending).unlink(missing_ok=True)

    def _beside(self, ending: str) -> Path:
        return self.path.with_name(self.path.name + ending)

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

    def _cannot_open(self, text: str) -> StoreUnreachableError:
        way_out = (
            "an earlier write is to be finished first: free some space, then repeat"
            if _is_unfinished(text) or "No space left" in text
            else "see who may read it and whether it is damaged"
        )
        return StoreUnreachableError(f"cannot open `{self.path}`: {text}; {way_out}")

    def dump(self, file: Path) -> None:
        """Copy the whole store into another file, which is whole or absent.

        Raises:
            StoreFormatError: if there is no store.
            StoreWriteError: if it cannot be written, e.g. for want of space.
        """
        if not self.path.exists():
            msg = f"there is no store at `{self.path}` to dump; load a graph first"
            raise StoreFormatError(msg)
        try:
            with self.alone(), self.opened(read_only=False) as database:
                with closing(ladybug.Connection(database)) as connection:
                    connection.execute("CHECKPOINT")  # what lies beside the file goes into it
                copy_whole(self.path, file)
        except RuntimeError as error:
            msg = f"cannot dump `{self.path}`: {one_line(error)}; see that its folder may be written and has room"
            raise StoreWriteError(msg) from error

    def restore(self, file: Path, *, overwrite: bool = False) -> None:
        """Make the store again from what `dump` wrote; it is the old or the new one, nothing between.

        Raises:
            StoreFormatError: if the file is no kglift store of this version.
            StoreWriteError: if there is a store and `overwrite` is not given, or the disk is full or read-only.
        """
        if self.path.exists() and not overwrite:
            msg = f"there is a store at `{self.path}`; give --overwrite to replace it, or another path"
            raise StoreWriteError(msg)
        if not file.is_file():
            msg = f"there is no dump `{file}`; give the file that `dump` wrote"
            raise StoreFormatError(msg)
        _check_dump(LadybugFile(LadybugConfig(file)))
        with self.alone(), ExitStack() as held:
            if self.path.exists():
                with suppress(RuntimeError):  # it is damaged, so nobody else has it
                    held.enter_context(self.opened(read_only=False))
            copy_whole(file, self.path, before=self._remove_logs)


def has_store(connection: Any, path: Path) -> bool:
    """Say whether an open file holds a kglift store; False for an empty one.

    Raises:
        StoreFormatError: if it holds something else, or a store of another version.
    """
    tables = [name for (name,) in connection.execute("CALL show_tables() RETURN name").get_all()]
    if not tables:
        return False
    if "KgliftStore" not in tables:
        found = ", ".join(sorted(tables)[:5])
        raise no_store(path, f"other tables ({found})")
    version = [number for (number,) in connection.execute("MATCH (s:KgliftStore) RETURN s.version").get_all()]
    if version != [STORE_VERSION]:
        msg = (
            f"`{path}` has store version {', '.join(map(str, version))}, this kglift reads {STORE_VERSION}; "
            "load the graph directory into a new store, or use the kglift that wrote this one"
        )
        raise StoreFormatError(msg)
    return True


def no_store(path: Path, what: str) -> StoreFormatError:
    """Say what a file holds in place of a kglift store."""
    return StoreFormatError(
        f"`{path}` holds {what} and no kglift store; give another path, or write a graph to a new one"
    )


def _check_dump(dump: LadybugFile) -> None:
    logs = [log for log in map(dump._beside, _LOGS) if log.exists() and log.stat().st_size]
    if logs:
        msg = (
            f"`{dump.path}` is a store with a log beside it (`{logs[0].name}`) and no dump; give what `dump` made of it"
        )
        raise StoreFormatError(msg)
    with dump.opened(read_only=True) as database, closing(ladybug.Connection(database)) as connection:
        if not has_store(connection, dump.path):
            raise no_store(dump.path, "nothing yet")


def copy_whole(source: Path, target: Path, before: Callable[[], None] = lambda: None) -> None:
    """Copy a file so that the target is whole or what it was before.

    Args:
        source: the file.
        target: where it goes.
        before: called when the copy is whole, just before it becomes the target.

    Raises:
        StoreWriteError: if it cannot be written.
    """
    try:
        with source.open("rb") as reader, whole_file(target, overwrite=True) as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())  # before what `before` removes is gone
            before()
    except WriteError as error:
        raise StoreWriteError(str(error)) from error


def _is_unfinished(text: str) -> bool:
    """Tell from LadybugDB's words whether a write was broken off: its log is torn, or is yet to be worked in."""
    return _PENDING in text or any(words in text for words in _TORN)


def one_line(error: BaseException) -> str:
    """Return what an error says, in one line."""
    return " ".join(str(error).split())
