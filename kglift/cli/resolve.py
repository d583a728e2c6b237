"""`kglift resolve`: which entities fusion would merge, to be read, edited and applied."""

from pathlib import Path
from typing import Annotated

import typer

from kg.config import build_config, parse_settings
from kglift.cli.options import AsJson, Set
from kglift.cli.output import print_json, print_rows, say

_N_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(
        "resolve", epilog="Example: kglift resolve data/split facts -o same.json --set min_name_similarity=0.85"
    )(resolve)


def resolve(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="The graph directory with the interactions.")],
    fragments: Annotated[
        list[Path] | None, typer.Argument(metavar="[FRAGMENT]...", help="What extractions wrote.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to store them.")] = None,
    settings: Set = None,
    as_json: AsJson = False,
) -> None:
    """Show which entities `fuse` would merge, with the reasons; nothing is changed.

    Stored decisions can be edited, and applied by `kglift fuse --set decisions=FILE`.
    """
    from kg.files import read_graph
    from kg.fuse import FuseConfig, find_resolution

    config = build_config(FuseConfig, parse_settings(settings or []), where="fuse")
    found = find_resolution(read_graph(base), *(read_graph(f) for f in fragments or []), config=config)
    if out is not None:
        found.write(out)
    rows = found.decisions.to_pylist()
    if as_json:
        print_json({"decisions": rows, "too_large": found.too_large, "ambiguous": found.ambiguous})
        return
    title = f"{len(rows)} entities would go" + (f", the first {_N_SHOWN}" if len(rows) > _N_SHOWN else "")
    print_rows(title, ["entity", "goes into", "why"], (list(row.values()) for row in rows[:_N_SHOWN]))
    say(f"{len(found.too_large)} groups are too large and {len(found.ambiguous)} ambiguous: none of them is merged")
