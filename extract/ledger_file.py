"""The ledger's SQLite file: its tables, and whose file it is."""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from extract.errors import LedgerError

LEDGER_VERSION = 3
_APPLICATION_ID = 0x6B676C66
_BUSY_S = 60.0
_POLL_S = 0.01
_CACHE_KIB = 16_384
_LOG_PAGES = 50_000
_TABLES = """
CREATE TABLE runs (
    run TEXT PRIMARY KEY, method TEXT NOT NULL, prompt TEXT NOT NULL, prompt_version TEXT NOT NULL,
    model TEXT NOT NULL, parameters TEXT NOT NULL, created REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE replies (
    reply_id INTEGER PRIMARY KEY, key TEXT NOT NULL, run TEXT NOT NULL, unit_id TEXT NOT NULL,
    attempt INTEGER NOT NULL, prompt TEXT NOT NULL, text TEXT NOT NULL, is_cut_off INTEGER NOT NULL,
    errors TEXT NOT NULL, n_prompt_tokens INTEGER NOT NULL, n_completion_tokens INTEGER NOT NULL,
    seconds REAL NOT NULL, created REAL NOT NULL, is_retired INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX replies_by_key ON replies (key) WHERE is_retired = 0;
CREATE INDEX replies_by_unit ON replies (run, unit_id);
CREATE TABLE units (
    run TEXT NOT NULL, unit_id TEXT NOT NULL, place INTEGER NOT NULL, state TEXT NOT NULL,
    attempts INTEGER NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (run, unit_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE runners (runner TEXT PRIMARY KEY, beat REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE claims (key TEXT PRIMARY KEY, runner TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""
_SINCE_VERSION_2 = """
ALTER TABLE replies ADD COLUMN is_estimated INTEGER NOT NULL DEFAULT 0;
CREATE TABLE holds (
    runner TEXT PRIMARY KEY, model TEXT NOT NULL, n_prompt_tokens INTEGER NOT NULL, n_completion_tokens INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""
_SINCE_VERSION_3 = "ALTER TABLE units ADD COLUMN first_key TEXT NOT NULL DEFAULT ''"


def check_place(path: Path) -> None:
    """Make the directory of a ledger.

    Raises:
        LedgerError: if it cannot be made, or the path is a directory itself.
    """
    if path.is_dir():
        msg = f"`{path}` is a directory; give the path of a ledger file, e.g. `{path / 'ledger.sqlite'}`"
        raise LedgerError(msg)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"cannot make the directory of the ledger `{path}`: {error.strerror}; choose another place"
        raise LedgerError(msg) from error


def connect(path: Path) -> sqlite3.Connection:
    """Open a connection; transactions are begun and ended by hand, threads take turns."""
    return sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Check whose file this is before anything in it is changed; make the tables of a new one, add to those of an old.

    Raises:
        LedgerError: if it is a database of something else, or a ledger of a newer version.
    """
    if _version(connection, path) < LEDGER_VERSION:
        connection.execute("BEGIN IMMEDIATE")
        version = _version(connection, path)  # another process may have been faster
        for since, statements in ((1, _TABLES), (2, _SINCE_VERSION_2), (3, _SINCE_VERSION_3)):
            for statement in filter(str.strip, statements.split(";") if version < since else ()):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {LEDGER_VERSION}")
        connection.execute("COMMIT")
    _write_ahead(connection)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")  # `flush` comes first; whoever commits never waits


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Let the file have a log; SQLite by itself does not wait for others who open it at the same time."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)
        else:
            return


def flush(path: Path) -> None:
    """Flush what was committed to the disk, and move it from the log to the file; may run in another thread.

    Raises:
        OSError: if the disk fails.
        sqlite3.Error: if the file cannot be written.
    """
    log = path.with_name(path.name + "-wal")
    try:
        with log.open("rb") as handle:
            os.fsync(handle)
    except FileNotFoundError:
        return  # no log: everything is in the main file, which was flushed then
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """Return the version of a ledger; 0 for a file that is empty."""
    n_tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]  # first: another may make them
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if application == _APPLICATION_ID:
        if version > LEDGER_VERSION:
            msg = (
                f"the ledger `{path}` has version {version}, this kglift reads up to {LEDGER_VERSION}; "
                "use the kglift that wrote it, or choose another path"
            )
            raise LedgerError(msg)
        return version
    if n_tables:
        msg = f"`{path}` is a database of something else, no ledger; choose another path"
        raise LedgerError(msg)
    return 0
