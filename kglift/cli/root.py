"""The root of the command line: options for every command, errors, exit codes."""

import errno
import logging
import signal
import sys
from typing import Annotated, Any, NoReturn

import typer

from kg.files import code_version
from kglift.cli import backup, data, explore, graph, llm, model, resolve, run
from kglift.cli.output import errors, fail
from kglift.errors import EXPECTED_ERRORS

# Newer versions of typer carry a copy of click, older ones import it: this is the base class of either.
_UsageError: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

_INTERRUPTED = 130

app = typer.Typer(
    name="kglift",
    help="Lift a recommender with what an LLM knows: extract, fuse, store, train, and see whether it helped.",
    epilog="Start here: kglift run demo --out runs/demo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.add_typer(data.app, name="data")
app.add_typer(explore.runs, name="runs")
for commands in (run, graph, resolve, explore, backup, llm, model):
    commands.register(app)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version and stop.")] = False,
) -> None:
    context.obj = {"debug": debug}
    if version:
        about = code_version()
        typer.echo(f"kglift {about['version']}" + (f" ({about['commit'][:12]})" if about["commit"] else ""))
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 an error, 2 wrong usage, 3 units set aside, 130 stopped by Ctrl-C."""
    try:
        _run(sys.argv[1:] if arguments is None else arguments)
    finally:
        if arguments is None:  # from here on Python would let an interrupt kill it while it tidies up
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run(arguments: list[str]) -> NoReturn:
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    if not debug:
        logging.getLogger("neo4j").addHandler(logging.NullHandler())  # else its driver tells of each retry
    command: Any = typer.main.get_command(app)
    try:
        code = command.main(args=arguments, prog_name="kglift", standalone_mode=False)
    except (*EXPECTED_ERRORS, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        fail(error, debug=debug)
    except _UsageError as error:
        error.show()
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        _stopped()
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        fail(error, debug=debug, is_bug=error.errno != errno.ENOSPC)
    except Exception as error:  # noqa: BLE001  the last line of defence: a bug of kglift is one line too
        fail(error, debug=debug, is_bug=True)
    if code == _INTERRUPTED:
        _stopped()
    sys.exit(code if isinstance(code, int) else 0)


def _stopped() -> NoReturn:
    errors.print("[yellow]stopped[/]; what was done is kept. Run the same command again to go on.")
    sys.exit(_INTERRUPTED)
