"""Errors of `kg`.

KgError
├── SchemaError (ValueError)          a table, a row or a domain schema breaks its contract
│   ├── DuplicateIdError              an id or key occurs more than once
│   └── UnknownIdError (LookupError)  a row names an id that no table defines
├── ConfigError (ValueError)          a parameter is unknown or out of range
├── UnknownNameError (LookupError)    no registered member has this name
├── FileFormatError (ValueError)      a file or directory cannot be read as what it claims to be
│   ├── FormatVersionError            a directory of another format version
│   └── HalfWrittenError              a directory without a manifest, or that contradicts it
├── WriteError (OSError)              nothing was written: the disk is full, read-only or taken
├── SplitError (ValueError)           a split would leave a part empty, or was not made yet
└── LeakError (ValueError)            something outside `train` reached a model or a graph
"""

import difflib
from collections.abc import Iterable


class KgError(Exception):
    """Base of every error that `kg` raises on purpose."""


class SchemaError(KgError, ValueError):
    """A table, a row or a domain schema breaks its contract."""


class DuplicateIdError(SchemaError):
    """An id or a key occurs more than once."""


class UnknownIdError(SchemaError, LookupError):
    """A row names an id that no table defines."""


class ConfigError(KgError, ValueError):
    """A parameter is unknown or out of range."""


class UnknownNameError(KgError, LookupError):
    """No registered member has this name."""


class FileFormatError(KgError, ValueError):
    """A file or directory cannot be read as what it claims to be."""


class FormatVersionError(FileFormatError):
    """A directory of another format version."""


class HalfWrittenError(FileFormatError):
    """A directory without a manifest, or that contradicts it."""


class WriteError(KgError, OSError):
    """Nothing was written: the disk is full, read-only or the place is taken."""


class SplitError(KgError, ValueError):
    """A split would leave a part empty, or was not made yet."""


class LeakError(KgError, ValueError):
    """Something outside `train` reached a model or a graph."""


def first_five(values: Iterable[object]) -> str:
    """Name the first five of some values and count the rest, for an error text.

    Example:
        >>> first_five(["a", "b"])
        '`a`, `b`'
    """
    seen = list(values)
    rest = f" and {len(seen) - 5} more" if len(seen) > 5 else ""
    return ", ".join(f"`{v}`" for v in seen[:5]) + rest


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest the nearest known name and list them all, for an error text.

    Example:
        >>> did_you_mean("lightgnc", ["kgat", "lightgcn"])
        'did you mean `lightgcn`? Known: kgat, lightgcn.'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean `{close[0]}`? " if close else ""
    return f"{hint}Known: {', '.join(names) or 'none'}."
