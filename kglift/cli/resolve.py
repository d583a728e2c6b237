"""`kglift resolve` and `unmerge`: which entities fusion would merge, to be read and edited; and the way back."""

from pathlib import Path
from typing import Annotated

import typer

from kg.config import build_config, config_dict, parse_settings
from kglift.cli.options import AsJson, Set
from kglift.cli.output import print_json, print_rows, say

_N_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(
        "resolve", epilog="Example: kglift resolve data/split facts -o same.json --set min_name_similarity=0.85"
    )(resolve)
    app.command("unmerge", epilog="Example: kglift unmerge data/fused data/split facts --only mood:dark -o data/apart")(
        unmerge
    )


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

    Stored decisions can be edited, and applied by `kglift fuse --set decisions=FILE`. With `--set min_meaning=0.9` a
    sentence encoder (all-MiniLM-L6-v2, fetched once) is asked about names that are somewhat alike.
    """
    from kg.files import read_graph
    from kg.fuse import FuseConfig, find_resolution
    from kglift.fusing import encoder_for

    config = build_config(FuseConfig, parse_settings(settings or []), where="fuse")
    graphs = [read_graph(f) for f in fragments or []]
    found = find_resolution(read_graph(base), *graphs, config=config, encode=encoder_for(config, say))
    if out is not None:
        found.write(out)
    rows = found.decisions.to_pylist()
    if as_json:
        print_json({"decisions": rows, "too_large": found.too_large, "ambiguous": found.ambiguous})
        return
    _print("would go", rows)
    say(f"{len(found.too_large)} groups are too large and {len(found.ambiguous)} ambiguous: none of them is merged")


def unmerge(
    fused: Annotated[Path, typer.Argument(metavar="FUSED", help="What `kglift fuse` wrote.")],
    base: Annotated[Path, typer.Argument(metavar="BASE", help="The graph directory that it was made of.")],
    fragments: Annotated[
        list[Path] | None, typer.Argument(metavar="[FRAGMENT]...", help="What was fused with it.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Where to write; else a dry run.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="ENTITY", help="Only this one comes back; may be given often.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make entities that fusion merged two again; what was written to the fused graph since stays.

    Without --out nothing is written.
    """
    from kg.files import read_graph, write_graph
    from kg.unmerge import unmerge as take_back
    from kglift.fusing import fused_by

    config, report, merged = fused_by(fused)
    graphs = [read_graph(base), *(read_graph(f) for f in fragments or [])]
    graph, left = take_back(
        read_graph(fused), *graphs, config=config, merged=merged, entities=only or [], n_rows=report["before"]
    )
    still = left.decisions.to_pylist()
    back = [row for row in merged.decisions.to_pylist() if row not in still]
    if out is not None:
        documents = {"fusion.json": {**report, "merged": still, "after": graph.counts()}}
        write_graph(graph, out, config=config_dict(config), documents=documents)
    if as_json:
        print_json({"back": back, "still_merged": still})
        return
    _print("apart again" if out else "would be apart again", back)


def _print(title: str, rows: list[dict[str, str]]) -> None:
    more = f", the first {_N_SHOWN}" if len(rows) > _N_SHOWN else ""
    what = "entity" if len(rows) == 1 else "entities"
    shown = (list(row.values()) for row in rows[:_N_SHOWN])
    print_rows(f"{len(rows)} {what} {title}{more}", ["entity", "goes into", "why"], shown)
