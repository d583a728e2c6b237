"""Commands on graphs: stats, check, fuse, load."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from kg.config import build_config, config_dict, parse_settings
from kglift.cli.options import AsJson, GraphDir, Out, Overwrite, Quiet, Set
from kglift.cli.output import print_counts, print_json, print_rows, say
from kglift.progress import progress_bar

Store = Annotated[
    Literal["ladybug", "neo4j"], typer.Option("--store", help="ladybug (embedded, on disk) or neo4j (NEO4J_URI).")
]
At = Annotated[str, typer.Option("--at", metavar="PATH", help="The embedded store's file; for neo4j unused.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("stats", epilog="Example: kglift stats runs/demo/fuse --json")(stats)
    app.command("check", epilog="Example: kglift check runs/demo/fuse")(check)
    app.command("fuse", epilog="Example: kglift fuse data/split facts/item_facts -o data/fused")(fuse)
    app.command("load", epilog="Example: kglift load runs/demo/fuse --store ladybug --at graph.lbug")(load)


def stats(directory: GraphDir, as_json: AsJson = False) -> None:
    """Count a graph: tables, types, relations, splits, sources, degrees, coverage."""
    from kg.files import read_graph
    from kg.quality import describe

    found = describe(read_graph(directory)).to_dict()
    if as_json:
        print_json(found)
        return
    for title, part in found.items():
        if isinstance(part, dict):
            print_counts(title.replace("_", " "), part)


def check(directory: GraphDir, as_json: AsJson = False) -> None:
    """Look for leaks and faults; exit status 1 if one is found."""
    from kg.check import check as check_graph
    from kg.files import read_graph

    report = check_graph(read_graph(directory))
    if as_json:
        print_json(report.to_dict())
    else:
        rows = [(f.severity, f.code, f.count, f.text) for f in report.findings]
        print_rows("Leak check and faults", ["severity", "code", "count", "what"], rows)
        say("clean" if report.is_clean else "[bold red]not clean[/]")
    if not report.is_clean:
        raise typer.Exit(1)


def fuse(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="The graph directory with the interactions.")],
    fragments: Annotated[list[Path], typer.Argument(metavar="FRAGMENT...", help="What extractions wrote.")],
    out: Out,
    settings: Set = None,
    direct: Annotated[
        bool, typer.Option("--direct", help="The baseline: nothing resolved, every fact that is not denied certain.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Put extracted facts and a graph together: resolved, merged, every source kept.

    What was merged and why, conflicts, and rows that were dropped stand one by one in OUT/fusion.json.
    """
    from kg.files import read_graph, write_graph
    from kg.fuse import FuseConfig, direct_merge
    from kg.fuse import fuse as fuse_graphs
    from kglift.fusing import encoder_for

    if direct and settings:
        msg = "--direct leaves nothing to set; give either --direct or --set"
        raise typer.BadParameter(msg)
    graphs = [read_graph(f) for f in (base, *fragments)]
    if direct:
        graph, report = direct_merge(*graphs)
        how = {"direct": True}
    else:
        config = build_config(FuseConfig, parse_settings(settings or []), where="fuse")
        graph, report = fuse_graphs(*graphs, config=config, encode=encoder_for(config, say))
        how = config_dict(config)
    found = report.to_dict()
    documents = {"fusion.json": found}
    write_graph(graph, out, config=how, overwrite=overwrite, documents=documents)
    if as_json:
        print_json(found)
    else:
        print_counts(f"{out}", graph.counts())
        print_counts("what fusion did (each case is in fusion.json)", report.numbers())


def load(
    directory: GraphDir,
    store: Store = "ladybug",
    at: At = "graph.lbug",
    bulk: Annotated[
        bool,
        typer.Option("--bulk", help="By neo4j-admin, into the empty database of `make neo4j`."),
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write a graph into a store; loading twice is the same as loading once."""
    from kg.files import read_graph
    from kglift.stores import bulk_load_graph, load_graph

    if bulk and store != "neo4j":
        msg = "--bulk is for Neo4j; LadybugDB needs no other way in"
        raise typer.BadParameter(msg)
    graph = read_graph(directory)
    if bulk:
        bulk_load_graph(graph)
    else:
        with progress_bar(f"load into {store}", quiet=quiet) as progress:
            load_graph(graph, store, at, progress)
    if as_json:
        print_json(graph.counts())
    else:
        beside = "" if bulk else "; what was there before stays beside them"
        say(f"{store}: {sum(graph.counts().values()):,} rows written{beside}")
