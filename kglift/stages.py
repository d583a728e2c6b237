"""Stages of a run: each a directory that is whole or absent, made once for one configuration."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kg.errors import FileFormatError
from kg.files import GRAPH_FORMAT, locked, read_manifest
from kglift.errors import RunError

STAGE_FORMAT = "kglift-stage"


@dataclass(frozen=True)
class Workplace:
    """Where one stage works.

    Attributes:
        root: the run's directory.
        target: the directory that the stage makes.
        fingerprint: of the stage's settings and of what it builds on; goes into the manifest's `config`.
    """

    root: Path
    target: Path
    fingerprint: str

    def config(self, **values: Any) -> dict[str, Any]:
        """Return a manifest's `config` that marks the stage as done for these settings."""
        return {**values, "fingerprint": self.fingerprint}


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    Attributes:
        name: also the name of its directory.
        make: does the work; ends by writing `target` whole, with `Workplace.config` in its manifest.
        settings: plain JSON values that decide what comes out.
        needs: stages whose directories it reads.
        file_format: kind of directory it makes.
        makes: files beside its directory that it makes, too; if one is gone the stage is not done.
        holds: says whether what it used besides settings and directories is as it was, by the manifest's `config`.
    """

    name: str
    make: Callable[[Workplace], None]
    settings: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    file_format: str = GRAPH_FORMAT
    makes: tuple[str, ...] = ()
    holds: Callable[[Workplace, Mapping[str, Any]], bool] = lambda _place, _config: True


@contextmanager
def only_run(root: Path) -> Iterator[None]:
    """Hold a run's directory for this process; the system lets go of it however the process ends.

    Raises:
        RunError: if another process works in it.
    """
    taken = RunError(f"another kglift works in `{root}`; wait until it ends, or choose another --out")
    with locked(root / ".lock", taken):
        yield


def run_stages(
    stages: Sequence[Stage],
    root: Path,
    *,
    until: str = "",
    tell: Callable[[str, str], None] = lambda _name, _state: None,
) -> None:
    """Make every stage that is not done yet, in order.

    A graph that a stage builds on counts by its tables: made again with the same facts, it leaves what follows done.

    Args:
        stages: in an order in which each comes after what it needs.
        root: the run's directory.
        until: stop after this stage; empty = all.
        tell: called with a stage's name and `done already`, `started` or `done`.

    Raises:
        RunError: if `until` names no stage.
    """
    if until and until not in {s.name for s in stages}:
        msg = f"this run has no stage `{until}`; its stages are {', '.join(s.name for s in stages)}"
        raise RunError(msg)
    known: dict[str, Any] = {}
    for stage in stages:
        place = Workplace(root, root / stage.name, _fingerprint(stage, known))
        if is_done(stage, place):
            tell(stage.name, "done already")
        else:
            tell(stage.name, "started")
            stage.make(place)
            tell(stage.name, "done")
        known[stage.name] = _content(stage, place)
        if stage.name == until:
            return


def is_done(stage: Stage, place: Workplace) -> bool:
    """Say whether a stage's directory is whole and was made with these settings."""
    try:
        manifest = read_manifest(place.target, stage.file_format)
    except FileFormatError:
        return False
    config = manifest.get("config", {})
    is_same = config.get("fingerprint") == place.fingerprint and stage.holds(place, config)
    return is_same and all((place.root / name).exists() for name in stage.makes)


def _content(stage: Stage, place: Workplace) -> Any:
    """Return what the stages after this one build on: the tables of a graph, else the fingerprint."""
    if stage.file_format != GRAPH_FORMAT:
        return place.fingerprint
    files = read_manifest(place.target, GRAPH_FORMAT, verify=False)["files"]
    return {name: sha for name, sha in files.items() if name.endswith(".parquet")}


def _fingerprint(stage: Stage, known: Mapping[str, Any]) -> str:
    about = {"stage": stage.name, "settings": stage.settings, "needs": {name: known[name] for name in stage.needs}}
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
