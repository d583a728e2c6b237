"""The real `neo4j-admin` on the databases of a server of one's own: bulk import, dump and restore.

They need the server stopped; it is stopped, and started again where it ran, on the same ports.
"""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeVar

import neo4j
import pyarrow.compute as pc

from db import server
from db.class_archive import shared_classes
from db.errors import StoreFormatError, StoreUnreachableError, StoreWriteError
from db.neo4j_connection import Neo4jConfig, Neo4jConnection
from db.neo4j_csv import write_csv
from db.neo4j_home import DATABASE, alone, has_database, remove_database, replacing
from db.neo4j_load import ID_COLUMN, constrain
from kg.errors import first_five
from kg.graph import Graph

_Result = TypeVar("_Result")
_LONGEST_ID: Final = 8_164  # bytes that an index of Neo4j 5.26 takes
# the tools run for seconds, in which the JVM spent half of its work on compiling what was not called often enough
_COMPILE_LATE: Final = (
    "-XX:Tier4InvocationThreshold=150000",
    "-XX:Tier4MinInvocationThreshold=18000",
    "-XX:Tier4CompileThreshold=450000",
    "-XX:Tier4BackEdgeThreshold=1200000",
)


@dataclass(frozen=True)
class Home:
    """A server of one's own (`db.server`).

    Attributes:
        folder: its home folder.
        jars: the folder of the jars; None for `folder/lib`.
        password: of the user `neo4j`, where the server asks for one.
        java_options: more options of the JVM.
    """

    folder: Path
    jars: Path | None = None
    password: str | None = field(default=None, repr=False)
    java_options: tuple[str, ...] = ()

    def start(self, bolt_port: int = 0, http_port: int | None = None, *, auth: bool | None = None) -> server.Server:
        """Start the server, or return the one that runs."""
        return server.start(
            self.folder,
            jars=self.jars,
            bolt_port=bolt_port,
            http_port=http_port,
            password=self.password,
            auth=auth,
            java_options=self.java_options,
        )


def bulk_load(home: Home, graph: Graph) -> None:
    """Load a graph into an empty database by `neo4j-admin database import full`, a multiple faster than over Bolt.

    The result is the same. The database is empty again where the load fails. Where it is killed it is empty, too, or
    at the very end full without constraints, which a load over Bolt makes.

    Raises:
        StoreWriteError: if the database is not empty, an id is too long, or the importer or the server refuses.
        StoreUnreachableError: if Java is missing or the server does not start.
    """
    _refuse_long_ids(graph)
    _refuse_unless_empty(home, "load it without --bulk")
    with stopped(home):
        import_graph(home, graph)
    try:
        _with_session(home, lambda session: _finish(session, graph))
    except BaseException:
        empty(home)
        raise


def import_graph(home: Home, graph: Graph) -> None:
    """Fill the database of a stopped server anew, without constraints.

    Raises:
        StoreWriteError: if the importer refuses.
        StoreUnreachableError: if Java is missing.
    """
    home.folder.mkdir(parents=True, exist_ok=True)
    with replacing(home.folder) as new, tempfile.TemporaryDirectory(dir=new) as name:
        folder = Path(name)
        with _tool(home, new, "import", "full", DATABASE, "@/dev/stdin", cwd=folder) as importer:
            options = write_csv(graph, folder)  # while the JVM starts
            _end(importer, "import", options)


def empty(home: Home) -> None:
    """Remove everything from the database."""
    with stopped(home):
        remove_database(home.folder)


def dump(home: Home, file: Path) -> None:
    """Write the database into one file by `neo4j-admin database dump`; the file is whole or absent.

    Raises:
        StoreFormatError: if there is no database yet.
        StoreWriteError: if the tool refuses, e.g. for want of space.
    """
    if not has_database(home.folder):
        msg = f"`{home.folder}` has no database to dump; load a graph first"
        raise StoreFormatError(msg)
    file = file.absolute()
    with stopped(home), tempfile.TemporaryDirectory(dir=file.parent, prefix=".dump-") as folder:
        _admin(home, home.folder, "dump", DATABASE, f"--to-path={folder}")
        (Path(folder) / f"{DATABASE}.dump").replace(file)


def restore(home: Home, file: Path, *, overwrite: bool = False) -> None:
    """Make the database again from what `dump` wrote, by `neo4j-admin database load`.

    What is replaced is kept until the new one is whole, so the disk needs room for both.

    Raises:
        StoreFormatError: if the file is no dump.
        StoreWriteError: if the database is not empty and `overwrite` is not given.
    """
    if not file.is_file():
        msg = f"there is no dump `{file}`; give the file that `dump` wrote"
        raise StoreFormatError(msg)
    if not overwrite:
        _refuse_unless_empty(home, "give --overwrite to lose what it holds")
    try:
        with stopped(home), replacing(home.folder) as new, tempfile.TemporaryDirectory(dir=new) as folder:
            (Path(folder) / f"{DATABASE}.dump").symlink_to(file.absolute())
            _admin(home, new, "load", DATABASE, f"--from-path={folder}")
    except StoreWriteError as error:
        msg = f"`{file}` was not restored: {error}; give a file that `dump` wrote"
        raise StoreFormatError(msg) from error


@contextmanager
def stopped(home: Home) -> Iterator[None]:
    """Stop the server for some work that nobody else does meanwhile; it is started again, as it was, if it ran."""
    running = None
    try:
        with alone(home.folder):
            running = server.status(home.folder)
            server.stop(home.folder)
            yield
    finally:
        if running is not None:
            replace(home, password=None).start(running.bolt_port, running.http_port, auth=running.auth)


def _admin(home: Home, place: Path, *arguments: str) -> None:
    with _tool(home, place, *arguments) as tool:
        _end(tool, arguments[0])


@contextmanager
def _tool(home: Home, place: Path, *arguments: str, cwd: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """Start neo4j-admin on the databases of a place; it is killed where it has not ended with the block."""
    jars = server.fetch_jars(home.jars or home.folder / "lib").absolute()
    if lacking := server.missing_tools(jars=jars):
        raise StoreUnreachableError(lacking)
    folder = home.folder.absolute()
    (folder / "conf").mkdir(exist_ok=True)
    command = ["java", *server.MEMORY, *_COMPILE_LATE, *shared_classes(jars), *home.java_options, *server.OPENS]
    command += ["-cp", f"{jars}/*", "org.neo4j.cli.AdminTool", "database", *arguments]
    places = {"NEO4J_HOME": str(place.absolute()), "NEO4J_CONF": str(folder / "conf")}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env={**os.environ, **places}, cwd=cwd, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _end(tool: subprocess.Popen[str], command: str, options: Sequence[str] = ()) -> None:
    """Give a started tool the rest of its options, wait for its end, and raise what it says against them."""
    stdout, stderr = tool.communicate("\n".join(options))
    if tool.returncode != 0:
        lines = [line.strip() for line in f"{stderr}\n{stdout}".splitlines() if line.strip()]
        causes = [line for line in lines if line.startswith("Caused by:")]
        said = (causes[-1:] or lines[:1] or ["nothing"])[0]
        msg = f"neo4j-admin database {command} ended with {tool.returncode}: {said}; the database is as it was"
        raise StoreWriteError(msg)


def _refuse_long_ids(graph: Graph) -> None:
    long = []
    for table, column in ID_COLUMN.items():
        ids = getattr(graph, table)[column]
        for name in ids.filter(pc.greater(pc.binary_length(ids), _LONGEST_ID)).to_pylist():
            long.append(f"{table} {name[:40]}... ({len(name.encode()):,} bytes)")
    if long:
        msg = (
            f"{len(long)} ids are longer than the {_LONGEST_ID:,} bytes that an index of Neo4j takes: "
            f"{first_five(long)}; shorten them; nothing was written"
        )
        raise StoreWriteError(msg)


def _refuse_unless_empty(home: Home, way_out: str) -> None:
    if not has_database(home.folder):
        return
    ran = server.status(home.folder) is not None
    filled = _with_session(home, lambda session: session.run("MATCH (n) RETURN 1 LIMIT 1").single() is not None)
    if not ran:
        server.stop(home.folder)
    if filled:
        where = "" if home.folder == server.default_home() else f" --home {home.folder}"
        msg = (
            f"the database of `{home.folder}` is not empty, and this would replace it; {way_out}, "
            f"or empty it first: python -m db server empty{where}"
        )
        raise StoreWriteError(msg)


def _with_session(home: Home, work: Callable[[neo4j.Session], _Result]) -> _Result:
    ran = server.status(home.folder)
    quick = replace(home, java_options=(*server.QUICK_START, *home.java_options))
    running = ran or quick.start(auth=server.asked_for_password(home.folder))
    connection = Neo4jConnection(Neo4jConfig(uri=running.bolt_uri), home.password)
    try:
        with (
            connection.session(neo4j.WRITE_ACCESS) as session,
            connection.refusals(StoreWriteError, "the server refused"),
        ):
            return work(session)
    finally:
        connection.close()
        if ran is None:
            server.stop(home.folder)


def _finish(session: neo4j.Session, graph: Graph) -> None:
    constrain(session)
    if pc.any(pc.equal(pc.list_value_length(graph.features["vector"]), 0)).as_py():  # CSV has no empty list
        session.run("MATCH (f:Feature) WHERE f.vector IS NULL SET f.vector = []").consume()
