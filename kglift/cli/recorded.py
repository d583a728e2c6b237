"""`kglift extract recorded`: published answers of strong models as a graph."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kglift.cli.options import AsJson, Overwrite, Quiet
from kglift.cli.output import print_json, print_rows, say
from kglift.errors import RunError
from kglift.progress import progress_bar

_EXAMPLE = "Example: kglift extract recorded agent4rec agent4rec-ml1m -o runs/agent4rec"
_COUNTED = ("total", "done", "empty", "rejected", "set_aside")


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("recorded", epilog=_EXAMPLE)(recorded)


def recorded(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A member of extract.recordings; a wrong one lists them.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The files as their authors published them.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Gets `data`, `facts` and the ledger.")],
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Read answers that others paid for: their data set becomes DIR/data, what the model said DIR/facts.

    Nothing is asked. `kglift fuse DIR/data DIR/facts` puts the two together. What was not split by its authors is split
    by `leave_last_out`. The exit status is 1 if the leak check finds anything.
    """
    from extract.recorded import Recording, replay
    from kg.check import check
    from kg.files import write_graph
    from kg.graph import concat

    for part in (out / "data", out / "facts"):
        if part.exists() and not overwrite:
            msg = f"`{part}` exists already; choose another --out or allow it with --overwrite"
            raise RunError(msg)
    recording = Recording.find(name)(folder)
    data = _split(recording.dataset())
    with progress_bar(name, quiet=quiet) as progress:
        found = replay(recording, data, out / "ledger.sqlite", progress=progress)
    summary, checked = found.summary.to_dict(), check(concat(data, found.graph))
    about = {"recording": name, "asked": recording.asked}
    write_graph(data, out / "data", config=about, overwrite=overwrite)
    write_graph(found.graph, out / "facts", config=about, overwrite=overwrite, documents={"summary.json": summary})
    if as_json:
        print_json({**summary, "check": checked.to_dict()})
    else:
        _print(f"{name}, {recording.model}: {out / 'facts'}", summary, checked)
    if not checked.is_clean:
        raise typer.Exit(1)


def _split(graph: Any) -> Any:
    from kg.split import SplitConfig, split
    from kg.terms import UNSPLIT

    if UNSPLIT not in graph.interactions["split"].to_pylist():
        return graph
    return split(graph, SplitConfig(method="leave_last_out"))


def _print(title: str, summary: dict[str, Any], checked: Any) -> None:
    counts = [(f"answers {what}", summary[what]) for what in _COUNTED]
    counts += [(f"{table} {kind}", n) for table, kinds in summary["facts"].items() for kind, n in kinds.items()]
    counts += [(f"rejected: {why}", said["count"]) for why, said in summary["rejects"].items()]
    print_rows(title, ["what", "number"], counts)
    found = [(f.severity, f.code, f.count, f.text) for f in checked.findings]
    if found:
        print_rows("Leak check and faults", ["severity", "code", "count", "what"], found)
    say("leak check: clean" if checked.is_clean else "leak check: [bold red]not clean[/]")
