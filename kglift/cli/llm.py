"""`kglift extract`: ask an LLM."""

from dataclasses import astuple
from typing import Any

import typer
from typer.core import TyperGroup

from kg.config import config_dict
from kglift.cli import batch, recorded
from kglift.cli import ledger as ledger_commands
from kglift.cli import score as score_commands
from kglift.cli.asking import UNITS_SET_ASIDE, asks
from kglift.cli.options import AsJson, Out, Overwrite, Quiet
from kglift.cli.output import print_json, print_rows, say
from kglift.downloads import fetch
from kglift.errors import RunError
from kglift.plan import Asking
from kglift.progress import progress_bar

_EXAMPLE = "Example: kglift extract data/split --method item_facts -o facts/item_facts"
_TOKENS = ("step", "state", "units", "open", "tokens in", "out", "out, most")
_COSTS = ("step", "state", "cost", "cost, most")
_AHEAD = (
    "steps ahead ask about answers that are not there yet: counted is the most that the settings allow, with prompts "
    "as long as earlier ones of that step and model, or else as those of the step that is open"
)
_MOST = (
    "most: if every first reply is valid and as long as it may be; after invalid ones up to {n} replies are paid for a "
    "question, each of a longer prompt"
)
_HELP = "Ask an LLM about items or histories (`kglift extract DIR ...` is `kglift extract ask DIR ...`); see a ledger."


class _AskByDefault(TyperGroup):
    """Takes a first word that names no command for the directory of `ask`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `ask` before it."""
        if args and args[0] != "--help" and args[0] not in self.commands:
            args = ["ask", *args]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = typer.Typer(cls=_AskByDefault, help=_HELP, epilog=_EXAMPLE, no_args_is_help=True)
    group.command("ask", epilog=_EXAMPLE)(asks(extract))
    example = "Example: kglift extract estimate data/split --engine prompt_price=0.15 --engine completion_price=0.6"
    group.command("estimate", epilog=example)(asks(estimate))
    batch.register(group)
    recorded.register(group)
    ledger_commands.register(group)
    score_commands.register(group)
    app.add_typer(group, name="extract")


def extract(
    asking: Asking,
    out: Out,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Ask an LLM about items or histories, and write the facts with their sources.

    Stop it when you like: answers that came are kept in the ledger and are not asked for again. The exit status is 3 if
    the facts were written but units had to be set aside.
    """
    from kg.files import write_graph
    from kglift.asking import ask
    from kglift.settings import LOCAL_MODEL, needs_local_model

    if out.exists() and not overwrite:
        msg = f"`{out}` exists already; choose another --out or allow it with --overwrite"
        raise RunError(msg)
    if needs_local_model(asking.llm):
        fetch(LOCAL_MODEL, say)
    step = asking.step
    with progress_bar(step.method, quiet=quiet) as progress:
        found = ask(asking, progress, say)
    summary = found.summary.to_dict()
    write_graph(found.graph, out, config=config_dict(step), overwrite=overwrite, documents={"summary.json": summary})
    if as_json:
        print_json(summary)
    else:
        print_rows(f"{step.method}: {out}", ["what", "number"], _flat(summary))
        if (share := found.summary.ungrounded_share) is not None:
            say(f"{share:.0%} of the names that it looked up in the catalogue were rejected: absent or ambiguous")
    if found.summary.set_aside:
        say(f"units set aside: {found.summary.set_aside}; `kglift extract status` names them, `retry` reopens them")
        raise typer.Exit(UNITS_SET_ASIDE)


def estimate(asking: Asking, as_json: AsJson = False) -> None:
    """Say how much is open in each step and what it may cost; nothing is asked.

    "Most" is with every first reply valid and as long as it may be. After an invalid reply a question is asked again,
    up to `max_attempts` times, and each reply is paid for; a budget (`--engine budget_cost=...`) is the hard limit.
    """
    from kglift.asking import price

    found = price(asking, say)
    if as_json:
        print_json(found.to_dict())
        return
    rows = [(one.step, one.state, one.counts) for one in found.steps]
    if len(rows) > 1:
        rows.append(("all", "", found.counts))
    method, n_costs = asking.step.method, len(_COSTS) - 2
    tokens = ((step, state, *astuple(counts)[:-n_costs]) for step, state, counts in rows)
    print_rows(f"{method}: what is open", _TOKENS, tokens)
    if found.counts.most_cost:
        costs = ((step, state, *astuple(counts)[-n_costs:]) for step, state, counts in rows)
        print_rows(f"{method}: what it may cost", _COSTS, costs)
    if found.counts.open:
        say(_MOST.format(n=asking.engine.max_attempts))
    if found.is_bound:
        say(_AHEAD)


def _flat(summary: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in summary.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key} ")
        elif value is not None and not isinstance(value, list):
            rows.append((prefix + key, value))
    return rows
