"""Commands that keep a whole store in a file: dump, restore."""

from pathlib import Path
from typing import Annotated

import typer

from kglift.cli.graph import At, Store
from kglift.cli.output import say

File = Annotated[Path, typer.Argument(metavar="FILE", help="The dump.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("dump", epilog="Example: kglift dump kept.lbug --at runs/demo/graph.lbug")(dump)
    app.command("restore", epilog="Example: kglift restore kept.lbug --at runs/demo/graph.lbug")(restore)


def dump(file: File, store: Store = "ladybug", at: At = "graph.lbug") -> None:
    """Write a whole store into one file; the Neo4j of `make neo4j` is stopped meanwhile."""
    from kglift.stores import dump_store

    dump_store(file, store, at)
    say(f"{file}: {file.stat().st_size:,} bytes")


def restore(
    file: File,
    store: Store = "ladybug",
    at: At = "graph.lbug",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what the store holds.")] = False,
) -> None:
    """Make a store again from what `kglift dump` wrote."""
    from kglift.stores import restore_store

    restore_store(file, store, at, overwrite=overwrite)
    say(f"{store}: restored from {file}")
