"""`python -m extract`: time the engine."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from extract.bench.report import measure

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
_console = Console()


@app.callback()
def _commands() -> None:
    """Keep `bench` a word of its own: a single command would take its place."""


@app.command(epilog="Example: python -m extract bench --out results/extract/2-cores.json")
def bench(
    units: Annotated[int, typer.Option(help="Questions over HTTP, for each way; 0: leave that out.")] = 76_800,
    cached: Annotated[int, typer.Option(help="Questions answered from the ledger; 0: leave that out.")] = 100_000,
    local: Annotated[
        Path | None, typer.Option(metavar="FILE.gguf", help="Time this model, too, beside llama.cpp.")
    ] = None,
    local_units: Annotated[int, typer.Option(help="Questions that it answers, in each of three turns.")] = 40,
    out: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Write the rows there, too.")] = None,
) -> None:
    """Time the engine over HTTP beside clients that only send and read, from a full ledger, and with a local model."""
    found = measure(units, cached, local, local_units)
    table = Table(Column("way", no_wrap=True), "units", "wall s", "units/s", "of ideal", "CPU us")
    for row in found.rows:
        share = "" if row.share is None else f"{row.share:.1%}"
        cpu = "" if row.cpu_us is None else f"{row.cpu_us:.0f}"
        table.add_row(row.name, f"{row.n_units:,}", f"{row.wall_s:.1f}", f"{row.per_s:,.0f}", share, cpu)
    _console.print(table)
    for row in found.rows:
        if row.note:
            _console.print(f"{row.name}: {row.note}", highlight=False)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app()
