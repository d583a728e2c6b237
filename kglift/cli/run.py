"""`kglift run` and `kglift report`: the whole path, and what came out."""

import json
from pathlib import Path
from typing import Annotated

import typer

from kg.config import parse_settings
from kglift.cli.asking import UNITS_SET_ASIDE
from kglift.cli.options import AsJson, Quiet, Set
from kglift.cli.output import console, print_json, print_rows, say
from kglift.downloads import fetch
from kglift.plan import RunPlan, find_plan, read_plan
from kglift.progress import progress_bar
from kglift.settings import LOCAL_MODEL, needs_local_model


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("run", epilog="Example: kglift run demo --out runs/demo")(run)
    app.command("report", epilog="Example: kglift report runs/demo")(report)
    app.command("members", epilog="Example: kglift members --json")(members)


def run(
    plan: Annotated[str, typer.Argument(metavar="FILE.toml", help="A run's TOML file, or a built-in one: demo.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The run's directory; default runs/NAME.")] = None,
    until: Annotated[str, typer.Option(help="Stop after this stage: data, extract-METHOD, fuse, bench, ...")] = "",
    settings: Set = None,
    quiet: Quiet = False,
) -> None:
    """Run every stage that is not done yet: data, extract, fuse, bench, explain, store, report.

    Stop it when you like (Ctrl-C, even kill -9): the same command goes on where it was.
    The exit status is 3 if all is done, but units had to be set aside.
    """
    from kglift.pipeline import run as run_plan

    path = find_plan(plan)
    read = read_plan(path, parse_settings(settings or []))
    root = out or Path("runs") / read.name
    _fetch_what_is_needed(read)
    run_plan(
        read,
        root,
        lambda title: progress_bar(title, quiet=quiet),
        until=until,
        tell=lambda name, state: say(f"[bold]{name:>20}[/]  {state}"),
    )
    if not until:
        report(root)
    if n_aside := _n_set_aside(read, root):
        ledger = root / "ledger.sqlite"
        say(
            f"units set aside: {n_aside}; `kglift extract status --ledger {ledger}` names them. To have them asked "
            f"again: `kglift extract retry --ledger {ledger}`, then run this command again"
        )
        raise typer.Exit(UNITS_SET_ASIDE)


def _n_set_aside(plan: RunPlan, root: Path) -> int:
    """Count the units without a valid reply, in the stages that are done by now."""
    files = (root / f"extract-{step.method}" / "summary.json" for step in plan.extract)
    return sum(json.loads(file.read_text(encoding="utf-8"))["set_aside"] for file in files if file.exists())


def _fetch_what_is_needed(plan: RunPlan) -> None:
    """Fetch data and models first, so that their licence terms are read before anything is done with them."""
    from kglift import asking, fusing

    if plan.data.dataset:
        fetch(plan.data.dataset, say)
    if plan.extract and needs_local_model(plan.llm):
        fetch(LOCAL_MODEL, say)
    if fusing.asks_encoder(plan.fuse) or any(asking.asks_encoder(step) for step in plan.extract):
        fetch(fusing.ENCODER, say)


def report(
    root: Annotated[Path, typer.Argument(metavar="RUN", help="A run's directory.")], as_json: AsJson = False
) -> None:
    """Show what a run found, and write RUN/report.html and RUN/report.json again."""
    from kglift.report import render_terminal
    from kglift.runs import write_report

    built = write_report(root)
    if as_json:
        print_json(built)
        return
    render_terminal(built, console)
    say(f"\nreport: {root / 'report.html'}")


def members(
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table of the README.")] = False,
) -> None:
    """List what can be named in a run: sources, methods, providers, stores and models."""
    from kglift.members import list_members, markdown_table

    if as_json:
        print_json([dict(zip(("family", "name", "what"), row, strict=True)) for row in list_members()])
    elif markdown:
        typer.echo(markdown_table())
    else:
        print_rows("", ["family", "name", "what it does"], list_members())
