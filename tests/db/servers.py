"""A real Neo4j for tests: `NEO4J_URI` if set, else one of our own on a free port in a temporary home."""

import dataclasses
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL

import neo4j
import pytest

from db import server
from db.store import GraphStore

FAST_START = server.QUICK_START


@pytest.fixture(scope="session")
def own_neo4j(tmp_path_factory: pytest.TempPathFactory) -> Iterator[server.Server]:
    """Return an empty server of our own without a password; skip where none can be had."""
    home = tmp_path_factory.mktemp("neo4j")
    yield _start(home, None)
    server.stop(home)


@pytest.fixture(scope="session")
def neo4j_uri(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the address of an empty server without a password; skip where none can be had."""
    if uri := os.environ.get("NEO4J_URI"):
        _refuse_if_used(uri)
        yield uri
        wiped(uri)
        return
    yield request.getfixturevalue("own_neo4j").bolt_uri


@pytest.fixture(scope="session")
def locked_neo4j(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Return the address and the password of a second server, one that asks for it."""
    home, password = tmp_path_factory.mktemp("neo4j-locked"), "s3cret-p4ss;word"
    yield _start(home, password).bolt_uri, password
    server.stop(home)


def wiped(uri: str) -> None:
    """Delete everything in a test server."""
    with neo4j.GraphDatabase.driver(uri, auth=_auth()) as driver:
        driver.execute_query("MATCH ()-[r]->() DELETE r", database_="neo4j")
        driver.execute_query("MATCH (n) DELETE n", database_="neo4j")


def config_fields(member: type[GraphStore]) -> set[str]:
    """Return the names of a store's settings."""
    return {field.name for field in dataclasses.fields(member.Config)}


def empty_store(member: type[GraphStore], path: Path, request: pytest.FixtureRequest) -> GraphStore:
    """Open a store by its settings: one with a `uri` gets an emptied server, one with a `path` a new file."""
    fields = config_fields(member)
    if "uri" in fields:
        uri = request.getfixturevalue("neo4j_uri")
        wiped(uri)
        return member(member.Config(uri=uri))
    return member(member.Config(path=path) if "path" in fields else member.Config())


def _start(home: Path, password: str | None) -> server.Server:
    jars = server.default_home() / "lib"
    if lacking := server.missing_tools(jars=jars):
        pytest.skip(lacking)
    running = server.start(home, jars=jars, bolt_port=0, http_port=0, password=password, java_options=FAST_START)
    watch(os.getpid(), running.pid)
    return running


def watch(parent: int, child: int) -> None:
    """End a process when another one, which should have ended it, was killed."""
    loop = f"while kill -0 {parent} && kill -0 {child}; do sleep 1; done; kill {child}"
    subprocess.Popen(["sh", "-c", loop], stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True)


def _auth() -> tuple[str, str] | None:
    password = os.environ.get("NEO4J_PASSWORD")
    return (os.environ.get("NEO4J_USER", "neo4j"), password) if password else None


def _refuse_if_used(uri: str) -> None:
    with neo4j.GraphDatabase.driver(uri, auth=_auth()) as driver:
        records, _, _ = driver.execute_query("MATCH (n) RETURN n LIMIT 1", database_="neo4j")
    if records:
        pytest.fail(f"the tests delete everything in NEO4J_URI={uri}, and it is not empty; give an empty server")
