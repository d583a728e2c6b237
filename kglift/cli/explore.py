"""Commands that look into a store: query, shell, show, runs."""

import math
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from kglift.cli.graph import At, Store
from kglift.cli.options import AsJson
from kglift.cli.output import console, print_arrow, print_json, print_rows, say, write_arrow


def _seconds(text: str) -> float:
    if not 0 < (seconds := float(text)) < math.inf:
        msg = f"{text} is no time; give seconds, more than 0"
        raise typer.BadParameter(msg)
    return seconds


Timeout = Annotated[float, typer.Option("--timeout", parser=_seconds, metavar="SECONDS", help="When to stop a query.")]
_BY_ENDING = {".json": "json", ".parquet": "parquet"}
Limit = Annotated[int, typer.Option("--limit", min=1, metavar="ROWS", help="How many rows to fetch at most.")]
Write = Annotated[bool, typer.Option("--write", help="Let it change the store, which otherwise refuses.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("query", epilog="Example: kglift query coverage_by_relation --at runs/demo/graph.lbug")(query)
    app.command("shell", epilog="Example: kglift shell --at runs/demo/graph.lbug")(shell)
    app.command("show", epilog="Example: kglift show item:50 --at runs/demo/graph.lbug -o item-50.html")(show)


def query(
    cypher: Annotated[
        str | None,
        typer.Argument(help="Cypher, a file that holds it, or the name of a saved query; without it: lists those."),
    ] = None,
    store: Store = "ladybug",
    at: At = "graph.lbug",
    parameters: Annotated[
        list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="A parameter of the query.")
    ] = None,
    how: Annotated[
        Literal["table", "json", "csv", "parquet"] | None,
        typer.Option("--format", "-f", help="How to print or write it; default: as --out ends, or a table."),
    ] = None,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write it to a file, which must not exist.")] = None,
    write: Write = False,
    timeout_s: Timeout = 60.0,
    limit: Limit = 10_000,
) -> None:
    """Ask a store in Cypher; it can only be read unless --write is given."""
    from db import saved_queries
    from kglift.stores import find_query, open_store, read_parameters

    if cypher is None:
        print_rows("Saved queries", ["name", "what it answers"], saved_queries().items())
        return
    form = "json" if as_json else how or _BY_ENDING.get(out.suffix if out else "", "table")
    if form == "parquet" and out is None:
        msg = "parquet is no text to print; say where to write it: --out FILE"
        raise typer.BadParameter(msg)
    with open_store(store, at, must_exist=True) as opened:
        table = opened.query(
            find_query(cypher),
            read_parameters(parameters or []),
            timeout_s=timeout_s,
            max_rows=limit + 1,
            write=write,
        )
    if len(table) > limit:
        say(f"these are the first {limit:,} rows, there are more; raise --limit")
    if out is None:
        print_arrow(table.slice(0, limit), form)
    else:
        write_arrow(table.slice(0, limit), form, out)
        say(f"{min(len(table), limit):,} rows: {out}")


def shell(
    store: Store = "ladybug",
    at: At = "graph.lbug",
    write: Write = False,
    timeout_s: Timeout = 60.0,
    limit: Limit = 1_000,
) -> None:
    """Ask a store again and again: history, completion by Tab, statements of several lines; reads a pipe, too."""
    from kglift.shell import Shell, converse, run_script
    from kglift.stores import open_store

    with open_store(store, at, must_exist=True) as opened:
        sitting = Shell(opened, lambda table: print_arrow(table, "table"), say, timeout_s, limit, write)
        if sys.stdin.isatty() and console.is_terminal:
            say("statements end with `;`; :help says what else there is")
            converse(sitting)
        else:
            run_script(sitting, sys.stdin)


def show(
    entity: Annotated[str, typer.Argument(help="An id, or a name that only one entity bears.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write the page.")],
    store: Store = "ladybug",
    at: At = "graph.lbug",
    limit: Annotated[int, typer.Option("--limit", min=1, max=60, help="How many neighbours to draw.")] = 24,
) -> None:
    """Draw what is around an entity into one HTML file that needs no network."""
    from kg.files import write_file
    from kglift.show import render_neighbourhood
    from kglift.stores import open_store

    with open_store(store, at, must_exist=True) as opened:
        page = render_neighbourhood(opened, entity, limit=limit)
    write_file(out, page.encode())
    say(f"open {out.resolve().as_uri()}")


runs = typer.Typer(
    help="Runs in a store: named sets of sources.",
    epilog="Example: kglift runs list --at graph.lbug",
    no_args_is_help=True,
)


@runs.command("list", epilog="Example: kglift runs list --at graph.lbug")
def list_(store: Store = "ladybug", at: At = "graph.lbug", as_json: AsJson = False) -> None:
    """Show the runs and how many sources each has."""
    from db.runs import list_runs
    from kglift.stores import open_store

    with open_store(store, at, must_exist=True) as opened:
        found = list_runs(opened)
    if as_json:
        print_json(found)
    else:
        print_rows("Runs", ["run", "sources"], ((run, len(sources)) for run, sources in found.items()))


@runs.command("add", epilog="Example: kglift runs add prompt-v2 facts/item_facts --at graph.lbug")
def add(
    run: Annotated[str, typer.Argument(help="Its name; a run that is there gains what is new.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A graph directory, as any stage writes it.")],
    store: Store = "ladybug",
    at: At = "graph.lbug",
) -> None:
    """Write a graph into a store and give its sources the name of a run."""
    from db.runs import add_run
    from kg.files import read_graph
    from kglift.stores import open_store

    graph = read_graph(directory)
    with open_store(store, at) as opened:
        add_run(opened, run, graph)
    say(f"run `{run}`: {len(graph.sources):,} sources, {len(graph.triples):,} triples")


@runs.command("delete", epilog="Example: kglift runs delete prompt-v1 --at graph.lbug")
def delete(
    name: Annotated[str, typer.Argument(help="A run, or with --source a source.")],
    store: Store = "ladybug",
    at: At = "graph.lbug",
    is_source: Annotated[bool, typer.Option("--source", help="Delete a source, not a run.")] = False,
) -> None:
    """Take a run or a source back: what another one says, too, stays."""
    from db.runs import delete_run
    from kglift.stores import open_store

    with open_store(store, at, must_exist=True) as opened:
        removed = opened.delete(name) if is_source else delete_run(opened, name)
    say(f"{removed:,} triples, hyperedges and texts removed")


@runs.command("diff", epilog="Example: kglift runs diff prompt-v1 prompt-v2 --at graph.lbug")
def diff(before: str, after: str, store: Store = "ladybug", at: At = "graph.lbug", as_json: AsJson = False) -> None:
    """Show what only one of two runs states, or each with another confidence: facts, hyperedges, members, texts."""
    from db.runs import diff_runs
    from kglift.stores import open_store

    with open_store(store, at, must_exist=True) as opened:
        table = diff_runs(opened, before, after)
    print_arrow(table, "json" if as_json else "table")
    say(", ".join(f"{n:,} {change}" for change, n in _numbers(table["change"].to_pylist())) or "no difference")


def _numbers(changes: list[str]) -> list[tuple[str, int]]:
    return [(change, changes.count(change)) for change in sorted(set(changes))]
