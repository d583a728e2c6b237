"""`kglift data`: bring data in, split it, take it out."""

from pathlib import Path
from typing import Annotated

import typer

from kg.config import build_config, parse_settings
from kglift.cli.options import AsJson, GraphDir, Out, Overwrite, Set
from kglift.cli.output import print_json, print_rows, say
from kglift.downloads import cached_path, fetch, find_offer, is_cached, offers

app = typer.Typer(help="Bring data in, split it, take it out.", no_args_is_help=True)

_OWN = """\
Your own data: `kglift data read SOURCE PATH --out DIR`, then `kglift data split DIR --out DIR2`.
Sources: {sources}. See `kglift data read --help`."""


@app.command("list", epilog="Example: kglift data list --json")
def list_offers(as_json: AsJson = False) -> None:
    """Show what can be fetched, and how to bring your own."""
    from kg.source import Source

    rows = [(name, o.kind, o.title, "yes" if is_cached(name) else "no") for name, o in offers().items()]
    if as_json:
        print_json([dict(zip(("name", "kind", "title", "here"), row, strict=True)) for row in rows])
        return
    print_rows("What `kglift data get NAME` brings", ["name", "kind", "what", "here"], rows)
    say(_OWN.format(sources=", ".join(Source.members())))


@app.command("get", epilog="Example: kglift data get ml-100k --out data/ml-100k")
def get(
    name: Annotated[str, typer.Argument(help="A name of `kglift data list`.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write it as a graph directory.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Fetch a data set or a model into the cache, check it, and show its licence terms."""
    offer = find_offer(name)
    folder = fetch(name)
    say(f"[bold]{name}[/]: {offer.title}\n{offer.terms}\nFiles: {folder}")
    if out is None:
        return
    if not offer.source:
        msg = f"`{name}` is a model, not a data set; leave out --out"
        raise typer.BadParameter(msg)
    read(offer.source, folder, out, overwrite=overwrite)


@app.command("read", epilog="Example: kglift data read table ratings.csv -o data/mine --set user=uid --set item=iid")
def read(
    source: Annotated[str, typer.Argument(help="Format: a member of kg.sources, see `kglift data list`.")],
    path: Annotated[Path, typer.Argument(help="File or folder to read.")],
    out: Out,
    settings: Set = None,
    overwrite: Overwrite = False,
) -> None:
    """Read interactions and a graph of some format into a graph directory."""
    from kg.config import config_dict
    from kg.files import write_graph
    from kg.source import Source

    cls = Source.find(source)
    config = build_config(cls.Config, parse_settings(settings or []), where=f"source `{source}`")
    graph, report = cls(config).read_with_report(path)
    write_graph(graph, out, config={"source": source, **config_dict(config)}, overwrite=overwrite)
    say(f"{out}: {report}")


@app.command("split", epilog="Example: kglift data split data/mine -o data/mine-split --set method=time")
def split_data(directory: GraphDir, out: Out, settings: Set = None, overwrite: Overwrite = False) -> None:
    """Divide the interactions into train, valid and test: by time, leave-last-out, or a ratio for each user."""
    from kg.config import config_dict
    from kg.files import read_graph, write_graph
    from kg.split import SplitConfig, split

    config = build_config(SplitConfig, parse_settings(settings or []), where="split")
    graph = split(read_graph(directory), config)
    write_graph(graph, out, config=config_dict(config), overwrite=overwrite)
    sizes = {part: len(graph.interactions_of(part)) for part in ("train", "valid", "test")}
    say(f"{out}: " + ", ".join(f"{n:,} {part}" for part, n in sizes.items()))


@app.command("write", epilog="Example: kglift data write hif runs/demo/fuse hypergraph.json")
def write(
    kind: Annotated[str, typer.Argument(metavar="FORMAT", help="hif, or a source: rdf, graphml, recbole, table, ...")],
    directory: GraphDir,
    path: Annotated[Path, typer.Argument(help="File or folder to write.")],
    settings: Set = None,
) -> None:
    """Take a graph out in another format."""
    from kg.files import read_graph
    from kglift.exports import export

    left_out = export(read_graph(directory), kind, path, parse_settings(settings or []))
    lost = ", ".join(f"{n:,} {table}" for table, n in left_out.items() if n)
    say(f"{path}: written as {kind}" + (f"; the format has no place for {lost}" if lost else ""))


@app.command("where", epilog="Example: ls $(kglift data where ml-100k)")
def where(name: Annotated[str, typer.Argument(help="A name of `kglift data list`.")]) -> None:
    """Print the folder of the cache in which something lies, or will lie."""
    typer.echo(cached_path(name))
