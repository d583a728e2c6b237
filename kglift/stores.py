"""Stores as the front door opens them: by name, with secrets from the environment."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import db
from db.errors import StoreUnreachableError
from db.ladybug_store import LadybugConfig, LadybugStore
from db.neo4j_admin import Home, bulk_load, dump, restore
from db.server import default_home, refuse_other_server
from db.store import GraphStore
from kg.config import build_config, parse_settings
from kg.graph import Graph
from kg.progress import Progress, silent
from kglift.errors import SettingError
from kglift.settings import neo4j_settings


def open_store(name: str, at: str, *, must_exist: bool = False) -> GraphStore:
    """Open a store.

    Args:
        name: a member of `GraphStore`, e.g. `ladybug`, `neo4j`.
        at: file of an embedded store.
        must_exist: refuse to make a new embedded store.

    Raises:
        SettingError: if Neo4j is wanted and NEO4J_URI is not set.
        StoreUnreachableError: if the store is not there or does not answer.
    """
    cls = GraphStore.find(name)
    if name == "neo4j":
        server = neo4j_settings()
        if server is None:
            msg = "NEO4J_URI is not set; start a server with `make neo4j` and export the NEO4J_URI that it prints"
            raise SettingError(msg)
        about = {"uri": server.uri, "user": server.user, "database": server.database}
        return cls(build_config(cls.Config, about, where="neo4j"), password=server.password)  # type: ignore[call-arg]
    if must_exist and at and not Path(at).exists():
        msg = f"there is no store at `{at}`; make one with `kglift load DIR --at {at}`, or give --at"
        raise StoreUnreachableError(msg)
    return cls(build_config(cls.Config, {"path": at} if at else {}, where=name))


def load_graph(graph: Graph, name: str, at: str, progress: Progress = silent) -> None:
    """Write a graph into a store."""
    with open_store(name, at) as store:
        store.write(graph, progress)


def bulk_load_graph(graph: Graph) -> None:
    """Import a graph into the empty database of the server of `make neo4j`, which is stopped meanwhile."""
    bulk_load(_own_server(), graph)


def dump_store(file: Path, name: str, at: str) -> None:
    """Write a whole store into one file, that of LadybugDB or that of `make neo4j`."""
    if name == "neo4j":
        dump(_own_server(), file)
    else:
        LadybugStore(LadybugConfig(Path(at))).file.dump(file)


def restore_store(file: Path, name: str, at: str, *, overwrite: bool = False) -> None:
    """Make a store again from what `dump_store` wrote."""
    if name == "neo4j":
        restore(_own_server(), file, overwrite=overwrite)
    else:
        LadybugStore(LadybugConfig(Path(at))).file.restore(file, overwrite=overwrite)


def _own_server() -> Home:
    if named := neo4j_settings():
        refuse_other_server(default_home(), named.uri)
    return Home(default_home(), default_home() / "lib", os.environ.get("NEO4J_PASSWORD") or None)


def read_parameters(settings: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of a query from `name=value` texts.

    Raises:
        ConfigError: if one has no `=`.
        SettingError: if a number is larger than a store can hold.
    """
    parameters = parse_settings(settings)
    for name, value in parameters.items():
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            msg = f"the parameter {name}={value} is no integer of 64 bits; give a smaller one, or a text in quotes"
            raise SettingError(msg)
    return parameters


def find_query(text: str) -> str:
    """Return the Cypher that `text` names: a file, a saved query, or itself.

    Raises:
        SettingError: if the file is not UTF-8.
    """
    is_file = False
    with suppress(OSError, ValueError):  # a text may be no path at all
        is_file = Path(text).is_file()
    if is_file:
        try:
            return Path(text).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            msg = f"`{text}` is not UTF-8 (byte {error.start}); save it as UTF-8"
            raise SettingError(msg) from error
    if text.strip().isidentifier():
        return db.load_query(text.strip())
    return text
