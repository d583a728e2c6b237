"""`python -m db`: load a graph directory into a store, ask it, and run a Neo4j of one's own."""

import json
import logging
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, ProgressColumn, Task
from rich.table import Table

from db import server as neo4j_server
from db.bench import bench, jars_with_apoc, markdown
from db.browser import GUIDE_PORT, guide_server
from db.errors import DbError
from db.ladybug_store import LadybugConfig, LadybugStore
from db.neo4j_admin import Home as ServerHome
from db.neo4j_admin import bulk_load, dump, empty, restore
from db.neo4j_install import install
from db.neo4j_store import Neo4jConfig, Neo4jStore
from db.queries import load_query, saved_queries
from db.store import GraphStore
from kg.config import parse_settings
from kg.errors import ConfigError, KgError
from kg.files import read_graph
from kg.graph import Graph

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
server_app = typer.Typer(help="A Neo4j Community of one's own on loopback, without Docker.", no_args_is_help=True)
app.add_typer(server_app, name="server")
_console = Console()


class _Rate(ProgressColumn):
    def render(self, task: Task) -> str:
        """Draw the speed, e.g. `12,000 rows/s`."""
        speed = task.finished_speed or task.speed
        return f"{speed:,.0f} rows/s" if speed else ""


StorePath = Annotated[Path | None, typer.Option("--path", help="a LadybugDB file; without it: Neo4j at NEO4J_URI")]
Home = Annotated[Path | None, typer.Option(help="folder of the server; default: in the user's cache")]


@app.command()
def load(
    directory: Path,
    path: StorePath = None,
    bulk: Annotated[
        bool, typer.Option(help="by neo4j-admin into the empty database of the server of `python -m db server`")
    ] = False,
    home: Home = None,
) -> None:
    """Write a graph directory into a store; twice is the same as once.

    Example: python -m db load runs/demo/graph --path graph.lbug
    """
    graph = read_graph(directory)
    if bulk:
        with _console.status("importing: the server is stopped meanwhile"):
            bulk_load(_files_of(home), graph)
        _say_counts(graph)
        return
    columns = (*Progress.get_default_columns(), _Rate())
    with _store(path) as store, Progress(*columns, console=_console, transient=True) as bar:
        task = bar.add_task("load", total=sum(graph.counts().values()))
        store.write(graph, lambda done, total, note="": bar.update(task, completed=done, description=note or "load"))
    _say_counts(graph)


@app.command("dump")
def dump_store(file: Path, path: StorePath = None, home: Home = None) -> None:
    """Write a whole store into one file; of Neo4j that of `python -m db server`, which is stopped meanwhile.

    Example: python -m db dump kept.lbug --path graph.lbug
    """
    if path is None:
        dump(_files_of(home), file)
    else:
        LadybugStore(LadybugConfig(path)).file.dump(file)
    _console.print(f"{file}: {file.stat().st_size:,} bytes", highlight=False)


@app.command("restore")
def restore_store(
    file: Path,
    path: StorePath = None,
    home: Home = None,
    overwrite: Annotated[bool, typer.Option(help="replace what the store holds")] = False,
) -> None:
    """Make a store again from what `dump` wrote.

    Example: python -m db restore kept.lbug --path graph.lbug --overwrite
    """
    if path is None:
        restore(_files_of(home), file, overwrite=overwrite)
    else:
        LadybugStore(LadybugConfig(path)).file.restore(file, overwrite=overwrite)
    _console.print(f"restored from {file}", highlight=False)


@app.command()
def query(
    cypher: Annotated[
        str | None, typer.Argument(help="Cypher, or the name of a saved query; nothing lists those")
    ] = None,
    path: StorePath = None,
    param: Annotated[list[str] | None, typer.Option(help="name=value, as often as needed")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON lines")] = False,
    timeout_s: float = 60.0,
) -> None:
    """Ask a store; it can only be read.

    Example: python -m db query facts_of_entity --param entity_id=item:5 --path graph.lbug
    """
    if cypher is None:
        for name, answers in saved_queries().items():
            _console.print(f"{name:24} {answers}", highlight=False)
        return
    text = load_query(cypher) if cypher.isidentifier() else cypher
    with _store(path) as store:
        answer = store.query(text, parse_settings(param or []), timeout_s=timeout_s)
    if as_json:
        for row in answer.to_pylist():
            sys.stdout.write(json.dumps(row, default=str, ensure_ascii=False) + "\n")
        return
    shown = Table(*(escape(name) for name in answer.column_names))
    for row in answer.to_pylist():
        shown.add_row(*("" if value is None else escape(str(value)) for value in row.values()))
    _console.print(shown)


@app.command("bench")
def bench_stores(
    out: Annotated[Path | None, typer.Option("--json", help="where the figures go")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="how often the small graph is loaded")] = 3,
    large: Annotated[bool, typer.Option(help="load and read 1,000,000 triples too")] = True,
    table: Annotated[
        Path | None, typer.Option(help="print the Markdown table of such a file, and measure nothing")
    ] = None,
) -> None:
    """Time loading, beside single rows and neo4j-graphrag's writer, into a Neo4j that is started for it.

    Example: python -m db bench --json bench.json
    """
    if table is not None:
        sys.stdout.write(markdown(json.loads(table.read_text(encoding="utf-8"))) + "\n")
        return
    with tempfile.TemporaryDirectory(prefix="kglift-bench-") as folder, Progress(console=_console) as bar:
        task = bar.add_task("start", total=None)
        jars, home = install(neo4j_server.default_home() / "lib"), Path(folder) / "neo4j"
        try:
            figures = bench(
                ServerHome(home, jars_with_apoc(jars, home)).start().bolt_uri,
                ServerHome(Path(folder) / "bulk", jars),
                repeats=repeats,
                large=large,
                progress=lambda done, total, note="": bar.update(task, completed=done, total=total, description=note),
            )
        finally:
            neo4j_server.stop(home)
    if out is not None:
        out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(markdown(figures) + "\n")


@app.command()
def ping() -> None:
    """Say which server answers at NEO4J_URI.

    Example: NEO4J_URI=bolt://127.0.0.1:7687 python -m db ping
    """
    with _neo4j() as store:
        _console.print(f"{store.ping()} answers at {store.config.uri}", highlight=False)


@server_app.command()
def start(
    home: Home = None,
    port: Annotated[int, typer.Option(help="Bolt port; 0: any free one")] = neo4j_server.BOLT_PORT,
    http_port: Annotated[int, typer.Option(help="port of Neo4j Browser; 0: any free one")] = neo4j_server.HTTP_PORT,
) -> None:
    """Start Neo4j and wait until it answers; the first time it is installed (280 MB, a minute).

    With NEO4J_PASSWORD set the server asks for that password, else for none. Example: python -m db server start
    """
    home = home or neo4j_server.default_home()
    password = os.environ.get("NEO4J_PASSWORD") or None
    with _console.status("starting Neo4j (the first time it is installed: 280 MB, a minute)"):
        running = neo4j_server.start(
            home,
            jars=install(neo4j_server.default_home() / "lib"),
            bolt_port=port,
            http_port=http_port,
            password=password,
        )
    _say(running)


@server_app.command()
def stop(home: Home = None) -> None:
    """Stop the server; its databases stay. Example: python -m db server stop."""
    stopped = neo4j_server.stop(home or neo4j_server.default_home())
    _console.print("Neo4j is stopped; its databases stay" if stopped else "no Neo4j of this home was running")


@server_app.command("empty")
def empty_database(
    home: Home = None, yes: Annotated[bool, typer.Option("--yes", help="do not ask before")] = False
) -> None:
    """Remove everything from its database, after asking. Example: python -m db server empty."""
    folder = home or neo4j_server.default_home()
    if not yes:
        typer.confirm(f"Remove everything from the database of `{folder}`?", abort=True)
    empty(_home(home))
    _console.print("the database is empty", highlight=False)


@server_app.command()
def status(home: Home = None) -> None:
    """Say whether the server runs; exit code 1 where it does not. Example: python -m db server status."""
    running = neo4j_server.status(home or neo4j_server.default_home())
    if running is None:
        _console.print("no Neo4j of this home is running; start one: python -m db server start")
        raise typer.Exit(1)
    _say(running)


@server_app.command()
def guide(
    port: Annotated[int, typer.Option(help="port of the guide; 0: any free one")] = GUIDE_PORT,
) -> None:
    """Give Neo4j Browser a style and the saved queries as a guide, until Ctrl-C. Example: python -m db server guide."""
    with guide_server(port) as pages, suppress(KeyboardInterrupt):
        address = f"http://localhost:{pages.server_address[1]}"
        _console.print("In Neo4j Browser (python -m db server status says where it is):", highlight=False)
        _console.print(
            f"  :style {address}/kglift.grass\n  :play {address}/guide.html", highlight=False, soft_wrap=True
        )
        _console.print("Both stay in the page when this ends; Ctrl-C ends it.", highlight=False)
        pages.serve_forever()


def main() -> None:
    """Run the command line: an error of ours is one line and exit code 1."""
    logging.getLogger("neo4j").addHandler(logging.NullHandler())  # else its driver tells of each retry
    try:
        app()
    except (DbError, KgError) as error:
        Console(stderr=True).print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


def _say(running: neo4j_server.Server) -> None:
    asks = "with your password" if running.auth else "without a password"
    _console.print(f"Bolt      {running.bolt_uri}  ({asks}, on this machine only)", highlight=False, soft_wrap=True)
    _console.print(f"Browser   {running.browser_url or 'off'}", highlight=False, soft_wrap=True)
    _console.print(f"kglift    export NEO4J_URI={running.bolt_uri}", highlight=False, soft_wrap=True)


def _say_counts(graph: Graph) -> None:
    _console.print(", ".join(f"{n:,} {name}" for name, n in graph.counts().items() if n), highlight=False)


def _home(folder: Path | None) -> ServerHome:
    own = neo4j_server.default_home()
    return ServerHome(folder or own, own / "lib", os.environ.get("NEO4J_PASSWORD") or None)


def _files_of(folder: Path | None) -> ServerHome:
    """Return the server whose files are worked on: the named one, or our own unless NEO4J_URI is another's."""
    uri = os.environ.get("NEO4J_URI")
    if folder is None and uri:
        neo4j_server.refuse_other_server(neo4j_server.default_home(), uri)
    return _home(folder)


def _store(path: Path | None) -> GraphStore:
    return _neo4j() if path is None else LadybugStore(LadybugConfig(path))


def _neo4j() -> Neo4jStore:
    uri = os.environ.get("NEO4J_URI")
    if not uri:
        msg = "which store? Give --path FILE, or set NEO4J_URI (start a server: python -m db server start)"
        raise ConfigError(msg)
    named: dict[str, Any] = {"user": os.environ.get("NEO4J_USER"), "database": os.environ.get("NEO4J_DATABASE")}
    config = Neo4jConfig(uri=uri, **{key: value for key, value in named.items() if value})
    return Neo4jStore(config, os.environ.get("NEO4J_PASSWORD") or None)


if __name__ == "__main__":
    main()
