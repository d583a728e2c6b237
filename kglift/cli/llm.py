"""`kglift extract`: ask an LLM."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kg.config import build_config, config_dict, parse_settings
from kglift.cli.options import AsJson, GraphDir, Out, Overwrite, Quiet, Set
from kglift.cli.output import print_json, print_rows, say
from kglift.downloads import fetch
from kglift.errors import RunError
from kglift.progress import progress_bar


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("extract", epilog="Example: kglift extract data/split --method item_facts -o facts/item_facts")(extract)


def extract(
    directory: GraphDir,
    out: Out,
    method: Annotated[str, typer.Option("--method", "-m", help="A member of extract.methods.")] = "item_facts",
    provider: Annotated[str, typer.Option(help="auto, local, openai_api, replay.")] = "auto",
    ledger: Annotated[Path, typer.Option(help="Where replies are kept; none is paid for twice.")] = Path(
        "ledger.sqlite"
    ),
    settings: Set = None,
    engine: Annotated[
        list[str] | None, typer.Option("--engine", metavar="KEY=VALUE", help="Limits: max_units, budget_tokens, ...")
    ] = None,
    llm: Annotated[list[str] | None, typer.Option("--llm", metavar="KEY=VALUE", help="Set up the provider.")] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Ask an LLM about items or histories, and write the facts with their sources.

    Stop it when you like: answers that came are kept in the ledger and are not asked for again.
    """
    from kg.files import write_graph
    from kglift.asking import ask
    from kglift.plan import ExtractPlan, LlmPlan
    from kglift.settings import LOCAL_MODEL, needs_local_model

    if out.exists() and not overwrite:
        msg = f"`{out}` exists already; choose another --out or allow it with --overwrite"
        raise RunError(msg)
    plan = LlmPlan(provider, parse_settings(llm or []))
    if needs_local_model(plan):
        fetch(LOCAL_MODEL, say)
    step = ExtractPlan(method, parse_settings(settings or []))
    with progress_bar(method, quiet=quiet) as progress:
        found = ask(directory, step, plan, _limits(engine), ledger, progress)
    summary = found.summary.to_dict()
    write_graph(found.graph, out, config=config_dict(step), overwrite=overwrite, documents={"summary.json": summary})
    if as_json:
        print_json(summary)
    else:
        print_rows(f"{method}: {out}", ["what", "number"], _flat(summary))


def _limits(engine: list[str] | None) -> Any:
    from extract.engine import EngineConfig

    return build_config(EngineConfig, parse_settings(engine or []), where="--engine")


def _flat(summary: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in summary.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key} ")
        elif not isinstance(value, list):
            rows.append((prefix + key, value))
    return rows
