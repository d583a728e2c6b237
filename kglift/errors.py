"""Errors of `kglift`, and what the command line shows of any package's errors.

KgliftError
├── DownloadError (ConnectionError)  something could not be fetched, or is not what was expected
├── SettingError (ValueError)        an environment variable or an option is missing or wrong
└── RunError (ValueError)            a run directory or its configuration does not fit
"""

from db.errors import DbError
from extract.errors import ExtractError
from gnn.errors import GnnError
from kg.errors import KgError


class KgliftError(Exception):
    """Base of every error that `kglift` raises on purpose."""


class DownloadError(KgliftError, ConnectionError):
    """Something could not be fetched, or is not what was expected."""


class SettingError(KgliftError, ValueError):
    """An environment variable or an option is missing or wrong."""


class RunError(KgliftError, ValueError):
    """A run directory or its configuration does not fit."""


EXPECTED_ERRORS = (KgliftError, KgError, ExtractError, DbError, GnnError)
"""What the command line shows as one line; anything else is a bug of kglift."""
