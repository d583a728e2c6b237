"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

GraphDir = Annotated[Path, typer.Argument(metavar="DIR", help="A graph directory, as any stage writes it.")]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where to write; must not exist.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is at --out.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a parameter; may be given often. Values are TOML."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Format = Annotated[Literal["table", "json", "csv"], typer.Option("--format", "-f", help="How to print it.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
