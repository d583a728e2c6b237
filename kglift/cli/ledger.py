"""`kglift extract status | retry | show`: what a ledger holds, and another chance for what was set aside."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from kglift.cli.asking import LEDGER, LedgerFile
from kglift.cli.options import AsJson
from kglift.cli.output import print_json, print_rows, say
from kglift.errors import RunError

Run = Annotated[str, typer.Option("--run", help="The start of a run's address, as `status` shows it; default all.")]
_N_SHOWN = 8
_N_LISTED = 20
_ABOUT = ("run", "prompt", "model")
_COUNTS = (
    *(("run", "run"), ("open", "pending"), ("valid", "answered"), ("done", "done"), ("empty", "empty")),
    *(("rejected", "rejected"), ("aside", "set_aside"), ("replies", "replies")),
    *(("in", "prompt_tokens"), ("out", "completion_tokens")),
)
_TOKENS = ("prompt_tokens", "completion_tokens")
_ESTIMATED = "~: the server did not say all tokens; some are estimated from the length of the texts"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("status", epilog="Example: kglift extract status --ledger runs/demo/ledger.sqlite")(status)
    app.command("retry", epilog="Example: kglift extract retry --run 3fa9")(retry)
    app.command("show", epilog="Example: kglift extract show item:42")(show)


def status(ledger: LedgerFile = LEDGER, as_json: AsJson = False) -> None:
    """Count the units of every run by state, with what was paid for; name the units that were set aside.

    Units are open until their run ends; `valid` (with --json `answered`) counts those of them that have a valid reply.
    """
    from extract.ledger_rows import SET_ASIDE

    with _open(ledger) as opened:
        rows = [
            {
                "run": run.run[:_N_SHOWN],
                "method": run.method,
                "prompt": f"{run.prompt}.{run.prompt_version}",
                "model": run.model,
                **opened.counts(run.run),
                "answered": opened.n_answered(run.run),
                **dict(zip(("replies", "prompt_tokens", "completion_tokens"), opened.paid(run.run), strict=True)),
                "estimated_replies": opened.n_estimated(run.run),
            }
            for run in opened.runs()
        ]
        aside = [(run.run[:_N_SHOWN], unit) for run in opened.runs() for unit in opened.units(run.run, SET_ASIDE)]
    if as_json:
        print_json({"runs": rows, "set_aside": [{"run": run, **asdict(unit)} for run, unit in aside]})
        return
    print_rows(str(ledger), _ABOUT, ([row[name] for name in _ABOUT] for row in rows))
    print_rows("units, replies and their tokens", [name for name, _ in _COUNTS], (_counts(row) for row in rows))
    if any(row["estimated_replies"] for row in rows):
        say(_ESTIMATED)
    if aside:
        listed = ((run, unit.unit_id, unit.attempts, unit.reason) for run, unit in aside[:_N_LISTED])
        print_rows(f"{len(aside)} set aside", ["run", "unit", "attempts", "reason"], listed)


def retry(ledger: LedgerFile = LEDGER, run: Run = "") -> None:
    """Let the units that were set aside be asked afresh when `kglift extract` runs next."""
    with _open(ledger) as opened:
        n_units = sum(opened.retire(found.run) for found in _runs(opened, run, ledger))
    say(f"units open again: {n_units}; run `kglift extract` as before, it asks only these")


def show(
    unit: Annotated[str, typer.Argument(metavar="UNIT", help="The unit's id, e.g. `item:42`.")],
    ledger: LedgerFile = LEDGER,
    run: Run = "",
    as_json: AsJson = False,
) -> None:
    """Show where a unit stands in each run: state, reason, and every question and reply."""
    with _open(ledger) as opened:
        found = [
            {"run": one.run, "method": one.method, "model": one.model, "prompt_version": one.prompt_version}
            | {"state": state.state, "attempts": state.attempts, "reason": state.reason}
            | {"is_answered": _is_answered(replies := opened.history(one.run, unit)), "replies": replies}
            for one in _runs(opened, run, ledger)
            if (state := opened.unit(one.run, unit)) is not None
        ]
    if not found:
        msg = f"`{ledger}` knows no unit `{unit}`; see its runs with `kglift extract status`"
        raise RunError(msg)
    if as_json:
        print_json(found)
        return
    for part in found:
        _print(unit, part)


def _counts(row: dict[str, Any]) -> list[Any]:
    is_estimated = row["estimated_replies"] > 0
    return [f"~{row[name]:,}" if is_estimated and name in _TOKENS else row[name] for _, name in _COUNTS]


def _is_answered(replies: list[dict[str, Any]]) -> bool:
    return any(not reply["errors"] and not reply["is_retired"] for reply in replies)


def _print(unit: str, part: dict[str, Any]) -> None:
    from extract.ledger_rows import PENDING

    replies, is_answered = part.pop("replies"), part.pop("is_answered")
    print_rows(f"{unit} in run {part['run'][:_N_SHOWN]}", ["what", "value"], part.items())
    for reply in replies:
        print_rows(f"attempt {reply['attempt']}", ["what", "value"], reply.items())
    if is_answered and part["state"] == PENDING:
        say("a valid reply is there; its facts are made when the run ends")
    if not replies:
        say("no reply of its own: nothing came yet, or another unit asked the same question")


def _open(path: Path) -> Any:
    from extract.ledger import Ledger

    if not path.exists():
        msg = f"there is no ledger `{path}`; give its path with --ledger (of a run: RUN/ledger.sqlite)"
        raise RunError(msg)
    return Ledger(path)


def _runs(opened: Any, start: str, path: Path) -> list[Any]:
    runs = [run for run in opened.runs() if run.run.startswith(start)]
    if not runs:
        msg = f"`{path}` has no run `{start}`; see its runs with `kglift extract status`"
        raise RunError(msg)
    return runs
