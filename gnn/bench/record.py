"""A run of the benchmark as a file, and files as a Markdown table."""

import dataclasses
import json
import platform
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from gnn.bench.row import Kind, Machine, Row
from gnn.bench.setting import Setting
from kg.config import build_config
from kg.errors import FileFormatError
from kg.files import code_version, write_json
from kg.machine import cpu_model

_FORMAT = "gnn-bench"
_VERSION = 1
_LIBRARIES = ("torch", "torch-geometric", "numba", "numpy", "scipy", "triton")
_HEAD = ("task", "route", "ms", "x floor", "extra MB", "times as long: peer (ms)")
_GIGA = 1e9


@dataclass(frozen=True)
class Record:
    """A run: where, with what, and the rows.

    Attributes:
        device: name of the processor or GPU that the rows of this run were measured on.
        commit: of the code; None outside a checkout.
        dirty: whether files differed from the commit.
        versions: library -> version; also `python` and `kglift`.
        date: when it began, UTC.
        threads: of torch.
        data: the folder's name, or `synthetic`.
        repeats: asked for.
        bandwidth: bytes read and written in a second by a copy.
        flop_rate: operations in a second by a float32 matrix product.
        finished: whether every task that was asked for is in `rows`.
        rows: what was measured.
    """

    device: str
    commit: str | None
    dirty: bool
    versions: dict[str, str]
    date: str
    threads: int
    data: str
    repeats: int
    bandwidth: float
    flop_rate: float
    finished: bool
    rows: tuple[Row, ...]


def new_record(setting: Setting, machine: Machine, repeats: int) -> Record:
    """Describe a run that begins now; it has no rows yet."""
    code = code_version()
    return Record(
        device=torch.cuda.get_device_name() if setting.device == "cuda" else cpu_model(),
        commit=code["commit"],
        dirty=_is_dirty(),
        versions={"python": platform.python_version(), "kglift": code["version"] or "", **_versions()},
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        threads=setting.n_threads,
        data=Path(setting.data).name,
        repeats=repeats,
        bandwidth=machine.bandwidth,
        flop_rate=machine.flop_rate,
        finished=False,
        rows=(),
    )


def write_record(record: Record, path: Path) -> None:
    """Write a run as JSON; a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json({"format": _FORMAT, "version": _VERSION, **dataclasses.asdict(record)}, path)


def read_record(path: Path) -> Record:
    """Read a run.

    Raises:
        FileFormatError: if the file is not one of this version.
        ConfigError: if a field is missing, unknown or of a wrong type.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"`{path}` cannot be read as JSON: {error}; give a file that `python -m gnn bench --json FILE` wrote"
        raise FileFormatError(msg) from error
    found = (value.get("format"), value.get("version")) if isinstance(value, dict) else None
    if found != (_FORMAT, _VERSION):
        msg = f"`{path}` is {found}; expected {(_FORMAT, _VERSION)}: make it with `python -m gnn bench --json`"
        raise FileFormatError(msg)
    fields = {k: v for k, v in value.items() if k not in ("format", "version")}
    rows = tuple(build_config(Row, row, where=f"a row of `{path}`") for row in fields.pop("rows", []))
    return build_config(Record, {**fields, "rows": rows}, where=f"`{path}`")


def markdown(records: Iterable[Record]) -> str:
    """Return a table for each run, as it stands in the README: predicted rows in a table of their own, notes below."""
    return "\n\n".join(part for record in records for part in _tables(record))


def lines(rows: Sequence[Row]) -> list[str]:
    """Return rows as aligned lines of text and then their notes, for a terminal."""
    cells = [_HEAD, *_lines_of(rows)]
    widths = [max(len(line[k]) for line in cells) for k in range(len(_HEAD))]
    table = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return [*table, *_notes(rows)]


def _tables(record: Record) -> list[str]:
    state = ", with uncommitted changes" if record.dirty else ""
    commit = (record.commit or "none")[:12]
    about = (
        f"{record.device}, {record.threads} threads, {record.data}, torch {record.versions.get('torch', '?')}, "
        f"commit `{commit}`{state}, {record.date[:10]}; copy {record.bandwidth / _GIGA:.1f} GB/s, "
        f"matrix product {record.flop_rate / _GIGA:.0f} GFLOP/s; medians of up to {record.repeats} runs in turn"
    )
    measured = [row for row in record.rows if row.kind != "predicted"]
    predicted = [row for row in record.rows if row.kind == "predicted"]
    parts = [about + ":", _table(_HEAD, _lines_of(measured)), "\n".join(f"- {note}" for note in _notes(measured))]
    if predicted:
        parts += ["Predicted, not measured, from the bytes that each kernel moves:", _predicted_table(predicted)]
    return [part for part in parts if part]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def _predicted_table(rows: Sequence[Row]) -> str:
    head = ("task", "route", "device", "MB", "ms")
    cells = [(r.task, r.route, r.device, _amount(r.bytes, 1e6), _number(r.ms)) for r in rows]
    return _table(head, cells)


def _lines_of(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the cells of one line for each way of ours, its peers side by side."""
    ways: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        ways.setdefault((row.task, row.route, row.device), []).append(row)
    return [_cells(way) for way in ways.values()]


def _cells(way: Sequence[Row]) -> tuple[str, ...]:
    row = way[0]
    route = f"{row.route}, {row.device}" if row.kind == "predicted" else row.route
    spread = f" ({_number(row.min_ms)} to {_number(row.max_ms)}, n {row.n})" if row.n > 1 else ""
    floors = "" if row.floors is None else f"{row.floors:.1f}"
    return (row.task, route, _time(row.ms, row.kind) + spread, floors, _amount(row.extra_bytes, 1e6), _peers(way))


def _peers(way: Sequence[Row]) -> str:
    """Say how many times as long each peer takes."""
    return ", ".join(
        f"{row.ratio:.{0 if row.ratio >= 10 else 1}f}x {row.peer} ({_time(row.peer_ms, row.peer_kind)})"
        for row in way
        if row.ratio is not None
    )


def _notes(rows: Sequence[Row]) -> list[str]:
    found = {text for row in rows for text in row.note.split("; ") if text}
    marked = "(x) is extrapolated from a part"
    kinds = {kind for row in rows for kind in (row.kind, row.peer_kind)}
    return sorted(found) + [marked] * ("extrapolated" in kinds)


def _time(value: float | None, kind: Kind | None) -> str:
    return _number(value) + " (x)" * (kind == "extrapolated")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _amount(value: int | None, unit: float) -> str:
    return "" if value is None else f"{value / unit:,.0f}"


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _is_dirty() -> bool:
    git, root = shutil.which("git"), Path(__file__).parent.parent.parent
    if git is None or not (root / ".git").exists():
        return False
    command = [git, "-C", str(root), "status", "--porcelain", "--untracked-files=no"]
    return bool(subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip())
