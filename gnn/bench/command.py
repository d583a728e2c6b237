"""The command line of the benchmark: `python -m gnn bench`."""

import argparse
import dataclasses
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gnn.bench import cuda_model
from gnn.bench.measure import measure_machine, run_tasks
from gnn.bench.record import Record, lines, markdown, new_record, read_record, write_record
from gnn.bench.row import Row, missed
from gnn.bench.setting import GOWALLA, SYNTHETIC, Setting, pick_device
from gnn.bench.task import Task
from gnn.errors import BarError, GnnError, InputError

EXAMPLE = """examples:
  python -m gnn bench --list
  python -m gnn bench lightgcn-step evaluation --json results/bench/mine.json
  python -m gnn bench --data synthetic --repeats 3 --check
  python -m gnn bench --table results/bench/*.json"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="names out of --list; none for all")
    parser.add_argument("--json", dest="file", type=Path, metavar="FILE", help="write the rows and what they ran on")
    about = f"a folder with LightGCN's Gowalla, or `{SYNTHETIC}`: a seeded graph of its size (default: {GOWALLA})"
    parser.add_argument("--data", default=str(GOWALLA), metavar="DIR", help=about)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="(default: auto)")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="threads of the CPU (default: 2)")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="runs of each contender (default: 5)")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bar of these tasks does not hold")
    parser.add_argument("--list", action="store_true", help="list the tasks and their bars")
    parser.add_argument("--table", nargs="+", type=Path, metavar="FILE", help="print the Markdown table of such files")


def bench(parsed: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Run the command.

    Returns:
        The record as plain values, and the text to print.

    Raises:
        UnknownNameError: if no task has a name that was given.
        InputError: for an option out of range, or if the data is not there.
        BarError: if a bar does not hold and `--check` was given.
        KeyboardInterrupt: as it came; what was measured before is printed and written.
    """
    if parsed.table:
        return {}, markdown(read_record(path) for path in parsed.table)
    names = parsed.tasks or list(Task.members())
    tasks = [Task.find(name) for name in names]
    if parsed.list:
        return {}, "\n".join(line for task in tasks for line in _about(task))
    for name in ("threads", "repeats"):
        if getattr(parsed, name) < 1:
            msg = f"`--{name}` is {getattr(parsed, name)}; expected at least 1"
            raise InputError(msg)
    setting = Setting(parsed.data, pick_device(parsed.device), parsed.threads)
    torch.set_num_threads(parsed.threads)
    record = _measure(tasks, setting, parsed)
    if parsed.check:
        _check(tasks, setting.device, record)
    return dataclasses.asdict(record), "\n".join(lines(record.rows))


def _measure(tasks: list[type[Task]], setting: Setting, parsed: argparse.Namespace) -> Record:
    """Run tasks and keep each one's rows as soon as it is done."""
    if any(task.reads_data for task in tasks):
        setting.ckg  # noqa: B018  absent data is said before anything is timed
    machine = measure_machine(setting)
    record = new_record(setting, machine, parsed.repeats)
    rows: list[Row] = []
    try:
        for found in run_tasks(tasks, setting, machine, parsed.repeats, _show_progress):
            rows += found
            record = _keep(record, rows, parsed.file)
            sys.stderr.write("\n")
    except GnnError:
        _show(rows)
        raise
    except KeyboardInterrupt as stop:
        _show(rows)
        kept = sorted({row.task for row in rows})
        where = f" in `{parsed.file}`" if parsed.file and rows else ""
        msg = f"finished and kept{where}: {', '.join(kept) or 'no task'}"
        raise KeyboardInterrupt(msg) from stop
    rows += [Row(**row, kind="predicted") for row in cuda_model.rows() if row["task"] in {t.name for t in tasks}]
    return _keep(dataclasses.replace(record, finished=True), rows, parsed.file)


def _keep(record: Record, rows: list[Row], path: Path | None) -> Record:
    record = dataclasses.replace(record, rows=tuple(rows))
    if path is not None:
        write_record(record, path)
    return record


def _check(tasks: list[type[Task]], device: str, record: Record) -> None:
    bars = [(task.name, bar) for task in tasks for bar in task.bars if bar.device == device]
    failed = [text for name, bar in bars if (text := missed(name, bar, record.rows))]
    if failed:
        _show(record.rows)
        msg = f"{len(failed)} of {len(bars)} bars do not hold: " + "; ".join(failed)
        raise BarError(msg)


def _about(task: type[Task]) -> list[str]:
    first = (inspect.getdoc(task) or "").partition("\n")[0]
    bars = [
        f"{'':<16} {b.device}, {b.route}: {b.unit}{f' to {b.peer}' if b.peer else ''} "
        f"{'>=' if b.unit == 'ratio' else '<='} {b.limit:g}"
        for b in task.bars
    ]
    return [f"{task.name:<16} {first}", *bars]


def _show(rows: Sequence[Row]) -> None:
    sys.stdout.write("".join(line + "\n" for line in lines(rows)) if rows else "")


def _show_progress(done: int, total: int | None, note: str = "") -> None:
    sys.stderr.write(f"\r{done}/{total}  {note:<60}")
    sys.stderr.flush()
