"""The folder of a Neo4j of one's own: one command at a time, and a new database beside the old one till it is whole."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from db.errors import StoreUnreachableError
from kg.files import locked

DATABASE: Final = "neo4j"
_PARTS: Final = (Path("data") / "databases" / DATABASE, Path("data") / "transactions" / DATABASE)
_WHOLE: Final = "whole"
_UNFINISHED: Final = "unfinished-"


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Let no other command start the server of a home or change its databases meanwhile; first put those in order.

    Raises:
        StoreUnreachableError: if another command is at work there.
    """
    msg = f"another command is at work on the databases of `{home}`; wait until it has ended"
    with locked(home / "lock", StoreUnreachableError(msg)):
        _settle(home)
        yield


@contextmanager
def replacing(home: Path) -> Iterator[Path]:
    """Give a folder for a new database, which takes the place of the old one at the end of the block.

    The folder gets another name where the new database is whole: whoever is killed before leaves the old one, and
    after that `alone` puts the new one in its place.
    """
    folder = Path(tempfile.mkdtemp(dir=home, prefix=_UNFINISHED))
    try:
        yield folder
        folder.rename(home / _WHOLE)
    finally:
        _settle(home)


def has_database(home: Path) -> bool:
    """Say whether there is a database, empty or not."""
    return any((place / _PARTS[0]).is_dir() for place in (home, home / _WHOLE))


def remove_database(home: Path) -> None:
    """Remove the database of a stopped server; the next start makes an empty one."""
    for part in _PARTS:
        shutil.rmtree(home / part, ignore_errors=True)


def _settle(home: Path) -> None:
    for part in _PARTS:
        if (home / _WHOLE / part).exists():
            if (home / part).exists():
                shutil.rmtree(home / part)
            (home / part).parent.mkdir(parents=True, exist_ok=True)
            (home / _WHOLE / part).rename(home / part)
    for left in (home / _WHOLE, *home.glob(f"{_UNFINISHED}*")):
        shutil.rmtree(left, ignore_errors=True)
