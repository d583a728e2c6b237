"""`kglift extract batch-write | batch-read`: by way of a provider's batch endpoint."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kg.config import parse_settings
from kglift.cli.asking import Engine, Llm, MethodName, limits
from kglift.cli.ledger import LEDGER, LedgerFile
from kglift.cli.options import AsJson, GraphDir, Set
from kglift.cli.output import print_counts, print_json, say

BatchFile = Annotated[Path, typer.Option("--file", metavar="FILE.jsonl", help="The batch file, or its results.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("batch-write", epilog="Example: kglift extract batch-write data/split --file ask.jsonl")(batch_write)
    app.command("batch-read", epilog="Example: kglift extract batch-read data/split --file results.jsonl")(batch_read)


def batch_write(
    directory: GraphDir,
    file: BatchFile,
    method: MethodName = "item_facts",
    ledger: LedgerFile = LEDGER,
    settings: Set = None,
    engine: Engine = None,
    llm: Llm = None,
) -> None:
    """Write the open questions as a file for the provider's batch endpoint."""
    n_requests = _batch(directory, method, ledger, (settings, engine, llm)).write(file)
    say(f"{n_requests} requests in {file}; hand it in, then read the results with `kglift extract batch-read`")


def batch_read(
    directory: GraphDir,
    file: BatchFile,
    method: MethodName = "item_facts",
    ledger: LedgerFile = LEDGER,
    settings: Set = None,
    engine: Engine = None,
    llm: Llm = None,
    as_json: AsJson = False,
) -> None:
    """Put the results of a batch into the ledger; `kglift extract` then makes the facts."""
    found = _batch(directory, method, ledger, (settings, engine, llm)).read(file).to_dict()
    if as_json:
        print_json(found)
    else:
        failed = found.pop("failed")
        print_counts(str(file), {**found, **{f"failed: {why}": count for why, count in failed.items()}})


def _batch(directory: Path, method: str, ledger: Path, given: tuple[list[str] | None, ...]) -> Any:
    from kglift.asking import batch
    from kglift.plan import ExtractPlan, LlmPlan

    settings, engine, llm = given
    step, plan = ExtractPlan(method, parse_settings(settings or [])), LlmPlan("openai_api", parse_settings(llm or []))
    return batch(directory, step, plan, limits(engine), ledger)
