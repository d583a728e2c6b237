"""`kglift extract batch-write | batch-read`: by way of a provider's batch endpoint."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kglift.cli.asking import asks
from kglift.cli.options import AsJson
from kglift.cli.output import print_counts, print_json, say
from kglift.plan import Asking

BatchFile = Annotated[Path, typer.Option("--file", metavar="FILE.jsonl", help="The batch file, or its results.")]
_PROVIDER = "openai_api"
_END = "no question is open in any step; `kglift extract` makes the facts"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for name, command, file in (("batch-write", batch_write, "ask"), ("batch-read", batch_read, "results")):
        example = f"Example: kglift extract {name} data/split --method llmrg --file {file}.jsonl"
        app.command(name, epilog=example)(asks(command, _PROVIDER))


def batch_write(asking: Asking, file: BatchFile, as_json: AsJson = False) -> None:
    """Write the open questions of the first step that has any as a file for the provider's batch endpoint.

    Write, hand in, read, and write again, until nothing is open: refused answers are asked again, and a method of
    several steps goes from one to the next. With nothing open the file is empty. With a budget (`--engine
    budget_tokens=...`) it holds no more than the rest of the budget surely pays for.
    """
    from kglift.asking import batch

    step = batch(asking, say).write(file)
    if as_json:
        print_json(step.to_dict())
    elif step.open:
        if n_written := step.open - step.left_out:
            then = "hand it in, then `kglift extract batch-read` its results"
            say(f"{_place(step)}: {n_written} requests in {file}; {then}")
        if step.left_out:
            say(f"{_place(step)}: left out: {step.left_out} requests; {step.why}")
    else:
        say(_END)


def batch_read(asking: Asking, file: BatchFile, as_json: AsJson = False) -> None:
    """Put the results of a batch into the ledger, and say what is open next."""
    from kglift.asking import batch

    found = batch(asking, say).read(file)
    if as_json:
        print_json(found.to_dict())
        return
    counts = {"stored": found.stored, "known": found.known, "set aside": found.set_aside}
    print_counts(str(file), {**counts, **{f"failed: {why}": count for why, count in found.failed.items()}})
    if found.next.open:
        say(f"{_place(found.next)}: {found.next.open} questions are open; `kglift extract batch-write` writes them")
    else:
        say(_END)


def _place(step: Any) -> str:
    return f"step {step.number}, {step.step}"
