"""Commands on recommenders: train, evaluate, recommend, explain."""

from pathlib import Path
from typing import Annotated, Literal

import pyarrow as pa
import typer

from kg.config import parse_settings
from kglift.cli.options import AsJson, Format, GraphDir, Out, Quiet, Seed, Set
from kglift.cli.output import console, print_arrow, print_json, print_rows, say
from kglift.progress import progress_bar

ModelDir = Annotated[Path, typer.Argument(metavar="MODEL", help="A trained model's directory.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("train", epilog="Example: kglift train runs/demo/fuse --model lightgcn -o models/lightgcn")(train)
    app.command("evaluate", epilog="Example: kglift evaluate runs/demo/fuse models/lightgcn --json")(evaluate)
    app.command("recommend", epilog="Example: kglift recommend runs/demo/fuse models/lightgcn --user 196")(recommend)
    app.command("explain", epilog="Example: kglift explain 196 302 --graph runs/demo/fuse")(explain)


def train(
    directory: GraphDir,
    out: Out,
    model: Annotated[str, typer.Option("--model", "-m", help="A member of gnn.models.")] = "lightgcn",
    settings: Set = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train a recommender on a graph; a run that was stopped goes on from its checkpoint."""
    from gnn.build import configure
    from gnn.train import train as train_model
    from kg.stream import read_ckg

    config, loop = configure(model, {"seed": seed, **parse_settings(settings or [])}, where="--set")
    ckg = read_ckg(directory)
    with progress_bar(f"train {model}", quiet=quiet) as progress:
        trained = train_model(model, ckg, config, loop, out, progress)
    if as_json:
        print_json({"model": model, "best_epoch": trained.best_epoch, "seconds": trained.seconds, "out": str(out)})
        return
    say(f"{out}: {model}, best epoch {trained.best_epoch}, {trained.seconds:.1f} s")


def evaluate(
    directory: GraphDir,
    model: ModelDir,
    split: Annotated[Literal["valid", "test"], typer.Option(help="What is to be found.")] = "test",
    as_json: AsJson = False,
) -> None:
    """Rank all items for every user, and measure."""
    from gnn.checkpoint import load_model
    from gnn.evaluate import evaluate as evaluate_model
    from kg.stream import read_ckg

    ckg = read_ckg(directory)
    found = evaluate_model(load_model(model, ckg), ckg, split=split)
    if as_json:
        print_json({"split": split, "n_users": found.n_users, **found.metrics})
    else:
        print_rows(f"{model} on {split}, {found.n_users:,} users", ["metric", "value"], found.metrics.items())


def recommend(
    directory: GraphDir,
    model: ModelDir,
    user: Annotated[list[str] | None, typer.Option("--user", "-u", help="A user's id; may be given often.")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Recommend to all users.")] = False,
    k: Annotated[int, typer.Option("-k", help="How many items.")] = 10,
    only: Annotated[Path | None, typer.Option(metavar="FILE", help="Only these items, an id on each line.")] = None,
    block: Annotated[Path | None, typer.Option(metavar="FILE", help="Never these items.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write Parquet instead of printing.")
    ] = None,
    how: Format = "table",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Recommend items that the user has not had yet, and say where each score is from."""
    from gnn.recommend import recommend_from
    from gnn.recommendations import RECOMMENDATIONS, read_ids, write_recommendations
    from kg.ckg import CollaborativeKG
    from kg.files import read_graph
    from kglift.explain import find_entity

    if bool(user) == everybody:
        msg = "give either --user or --all"
        raise typer.BadParameter(msg)
    graph = read_graph(directory)
    users = None if everybody else [find_entity(graph, text, "User") for text in user or ()]
    allowed, blocked = (None if path is None else read_ids(path) for path in (only, block))
    ckg = CollaborativeKG.from_graph(graph)
    n_users, tables = recommend_from(model, ckg, users, k, only=allowed, block=blocked or ())
    if out is not None:
        with progress_bar("recommend", quiet=quiet) as progress:
            counts = write_recommendations(tables, out, n_users, progress)
        say(f"{out}: {n_users:,} users; " + (", ".join(f"{n:,} by {why}" for why, n in counts.items()) or "none"))
        return
    table = pa.concat_tables([RECOMMENDATIONS.empty_table(), *tables])
    names = graph.names()
    table = table.append_column("item", [[names[i] for i in table["item_id"].to_pylist()]])
    print_arrow(table, "json" if as_json else how)


def explain(
    user: Annotated[str, typer.Argument(help="A user: id or name.")],
    item: Annotated[str, typer.Argument(help="An item: id or title.")],
    graph_dir: Annotated[Path, typer.Option("--graph", "-g", metavar="DIR", help="The fused graph.")] = Path(
        "runs/demo/fuse"
    ),
    limit: Annotated[int, typer.Option(min=1, help="How many paths.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Show the paths that support a recommendation, each edge with its confidence and where it came from."""
    from gnn.explain import PathFinder
    from kg.ckg import CollaborativeKG
    from kg.files import read_graph
    from kglift.explain import explain as explain_pair
    from kglift.explain import render_explanation

    graph = read_graph(graph_dir)
    finder = PathFinder(CollaborativeKG.from_graph(graph))
    found = explain_pair(graph, finder, user, item, limit=limit)
    if as_json:
        print_json(found.to_dict())
    else:
        render_explanation(found, console)
