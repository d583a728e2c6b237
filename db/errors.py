"""Errors of `db`.

DbError
├── StoreFormatError (ValueError)    what lies there is no kglift store, or of another version
├── StoreUnreachableError (ConnectionError)  no server, wrong address, wrong credentials, locked by another process
├── UnknownRunError (LookupError)    the store has no run of this name
├── QueryError (ValueError)          the query is wrong, not allowed, or took too long
└── StoreWriteError (OSError)        the store refused to write; it says what became of what was there
    └── RowsRefusedError             the store refused some rows; all others are written
"""

from dataclasses import dataclass
from typing import Any


class DbError(Exception):
    """Base of every error that `db` raises on purpose."""


class StoreFormatError(DbError, ValueError):
    """What lies there is no kglift store, or one of another version."""


class StoreUnreachableError(DbError, ConnectionError):
    """No server, a wrong address, wrong credentials, or a lock held by another process."""


class UnknownRunError(DbError, LookupError):
    """The store has no run of this name."""


class QueryError(DbError, ValueError):
    """The query is wrong, not allowed, or took too long."""


class StoreWriteError(DbError, OSError):
    """The store refused to write; the message says what became of what was there."""


@dataclass(frozen=True)
class RefusedRow:
    """A row that a store refused, and why."""

    table: str
    row: dict[str, Any]
    reason: str


class RowsRefusedError(StoreWriteError):
    """The store refused some rows; all others are written.

    Attributes:
        refused: the rows.
    """

    def __init__(self, message: str, refused: tuple[RefusedRow, ...]) -> None:
        super().__init__(message)
        self.refused = refused
