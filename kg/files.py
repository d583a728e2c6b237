"""The directory format of every stage: files and a `manifest.json`, complete or absent."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from kg.errors import FileFormatError, FormatVersionError, HalfWrittenError, WriteError, did_you_mean
from kg.graph import Graph
from kg.tables import TABLES

GRAPH_FORMAT = "kglift-graph"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"


@contextmanager
def atomic_directory(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary directory that becomes `path` when the block ends well, and vanishes when it does not.

    Everything is fsynced before the rename, so a killed writer leaves either no `path` or a whole one. An older
    directory is set aside (`.NAME.old-PID`) and deleted only after the new one is in place; a writer that is killed
    between those two renames leaves it aside, and the next reader or writer of the path puts it back. Leftovers
    (`.NAME.partial-PID`) of dead writers are swept away by the next one.

    Raises:
        WriteError: if `path` is taken (and `overwrite` is false, or it is a file), or the disk is full or read-only.
    """
    path = Path(path)
    partial = path.parent / f".{path.name}.partial-{os.getpid()}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        restore(path)
        _check_free(path, overwrite)
        sweep(path)
        partial.mkdir()
        yield partial
        _fsync_tree(partial)
        _put_in_place(partial, path)
    except WriteError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error.__cause__, OSError):  # about a file within, whose name nobody knows
            raise _not_written(path, error.__cause__) from error
        raise
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise _not_written(path, error) from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def restore(path: Path) -> None:
    """Put back the directory that a writer set aside before it was killed; does nothing where all is well."""
    if path.exists():
        return
    for aside in sorted(path.parent.glob(f".{path.name}.old-*")):
        if not _is_running(aside):
            aside.rename(path)
            return


@contextmanager
def whole_file(path: Path, *, overwrite: bool = False, text: bool = False) -> Iterator[IO[Any]]:
    """Yield an open file that becomes `path` when the block ends well, and vanishes when it does not.

    It is fsynced before it is renamed; what a killed writer left beside `path` is swept away by the next one.

    Args:
        path: its folder is made if need be.
        overwrite: replace the file that is there.
        text: open it for UTF-8 text, not bytes.

    Raises:
        WriteError: if `path` is taken, or the disk is full or read-only.
    """
    if path.exists() and not overwrite:
        msg = f"`{path}` exists already; choose another place, or remove it"
        raise WriteError(msg)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path)
        with partial.open("w", encoding="utf-8") if text else partial.open("wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        partial.replace(path)
        _fsync(path.parent)
    except OSError as error:
        raise _not_written(path, error) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def sweep(path: Path) -> None:
    """Remove what killed writers of a file or directory left beside it."""
    leftovers = [*path.parent.glob(f".{path.name}.partial-*"), *path.parent.glob(f".{path.name}.old-*")]
    for leftover in leftovers:
        if _is_running(leftover):
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, taken: Exception) -> Iterator[None]:
    """Hold a lock file for this process; the system lets go of it however the process ends.

    Args:
        path: the file; its folder is made if need be.
        taken: raised if another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise taken from error
        yield


def write_file(path: Path, data: bytes) -> None:
    """Write one file, whole or not at all.

    Raises:
        WriteError: if `path` is taken, or the disk is full or read-only.
    """
    with whole_file(path) as out:
        out.write(data)


def write_manifest(directory: Path, file_format: str, **about: Any) -> None:
    """Write `manifest.json` over the files that lie in `directory` now.

    Args:
        directory: usually what `atomic_directory` yields; its files are hashed.
        file_format: what kind of directory this is, e.g. `kglift-graph`.
        about: further plain values, by convention `counts`, `config`, `seed`.
    """
    files = {
        str(p.relative_to(directory)): file_sha256(p)
        for p in sorted(directory.rglob("*"))
        if p.is_file() and p.name != MANIFEST
    }
    manifest = {"format": file_format, "version": FORMAT_VERSION, **about, "files": files, "code": code_version()}
    write_json(manifest, directory / MANIFEST)


def write_json(value: Any, path: Path) -> None:
    """Write a plain value as JSON with sorted keys; a reader sees the old file or the new one, never half of one."""
    with whole_file(path, overwrite=True, text=True) as out:
        out.write(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_manifest(directory: Path, file_format: str, *, verify: bool = True) -> dict[str, Any]:
    """Read and check the manifest of a directory.

    Args:
        directory: what a stage wrote.
        file_format: the kind that is expected.
        verify: hash every file and compare.

    Raises:
        HalfWrittenError: if there is no manifest, or a file is missing or changed.
        FormatVersionError: if another version of kglift wrote it.
        FileFormatError: if it is a directory of another kind or no directory.
    """
    directory = Path(directory)
    restore(directory)
    manifest = _load_manifest(directory)
    if manifest.get("format") != file_format:
        msg = f"`{directory}` holds `{manifest.get('format')}`, expected `{file_format}`; give another directory"
        raise FileFormatError(msg)
    if manifest.get("version") != FORMAT_VERSION:
        msg = (
            f"`{directory}` has format version {manifest.get('version')}, this kglift reads {FORMAT_VERSION}; "
            "make it again from its sources, or use the kglift that wrote it"
        )
        raise FormatVersionError(msg)
    files = manifest.get("files")
    if not isinstance(files, dict):
        msg = f"`{directory / MANIFEST}` lists no files; it is damaged, make `{directory}` again"
        raise HalfWrittenError(msg)
    for name, sha in files.items():
        if not (directory / name).is_file():
            msg = f"`{directory}` lacks `{name}`, which its manifest names; it is damaged, make it again"
            raise HalfWrittenError(msg)
        if verify and file_sha256(directory / name) != sha:
            msg = f"`{directory / name}` is not what was written (sha256 differs); make `{directory}` again"
            raise HalfWrittenError(msg)
    return manifest


def write_graph(
    graph: Graph,
    path: Path,
    *,
    config: Mapping[str, Any] | None = None,
    seed: int | None = None,
    overwrite: bool = False,
    documents: Mapping[str, Any] | None = None,
) -> None:
    """Write a graph as a directory of Parquet tables, whole or not at all.

    Args:
        graph: what to write; rows are sorted by key, so equal graphs give equal files.
        path: the directory to make.
        config: the resolved configuration that made the graph.
        seed: the seed that made it.
        overwrite: replace what is there.
        documents: file name -> plain JSON value, written beside the tables (a summary, a fusion report).

    Raises:
        WriteError: if the place is taken, or the disk is full or read-only.
    """
    with atomic_directory(path, overwrite=overwrite) as partial:
        for name, table in graph.canonical().tables().items():
            pq.write_table(table, partial / f"{name}.parquet", compression="zstd")
        for name, document in (documents or {}).items():
            write_json(document, partial / name)
        write_manifest(partial, GRAPH_FORMAT, counts=graph.counts(), config=dict(config or {}), seed=seed)


def read_graph(path: Path, *, verify: bool = True) -> Graph:
    """Read a graph directory and validate it.

    Raises:
        FileFormatError: if it is no graph directory, half-written, or of another version.
        SchemaError: if a table breaks its schema.
    """
    path = Path(path)
    read_manifest(path, GRAPH_FORMAT, verify=verify)
    return Graph.from_tables(**{name: read_table(path, name) for name in TABLES})


def read_table(directory: Path, name: str) -> pa.Table:
    """Read one table of a graph directory, not validated.

    Raises:
        HalfWrittenError: if its file is not readable.
    """
    try:
        return pq.read_table(directory / f"{name}.parquet")
    except (pa.ArrowInvalid, OSError) as error:
        msg = f"`{directory / name}.parquet` is not readable Parquet: {error}; make `{directory}` again"
        raise HalfWrittenError(msg) from error


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@cache
def code_version() -> dict[str, str | None]:
    """Return the version of kglift and, in a checkout, its commit."""
    try:
        number = version("kglift")
    except PackageNotFoundError:
        number = "uninstalled"
    git = shutil.which("git")
    root = Path(__file__).parent.parent
    if git is None or not (root / ".git").exists():
        return {"version": number, "commit": None}
    found = subprocess.run([git, "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return {"version": number, "commit": found.stdout.strip() or None}


def _load_manifest(directory: Path) -> dict[str, Any]:
    if not directory.is_dir():
        msg = f"`{directory}` is no directory; give the path of one that a stage wrote"
        raise FileFormatError(msg)
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        beside = [p.name for p in directory.iterdir() if (p / MANIFEST).exists()]
        hint = did_you_mean(directory.name, beside) if beside else "it is half-written or something else; make it again"
        msg = f"`{directory}` has no {MANIFEST}: {hint}"
        raise HalfWrittenError(msg) from error
    except ValueError as error:
        msg = f"`{directory / MANIFEST}` is not valid JSON: {error}; make `{directory}` again"
        raise HalfWrittenError(msg) from error
    if not isinstance(manifest, dict):
        msg = f"`{directory / MANIFEST}` is no JSON object; make `{directory}` again"
        raise HalfWrittenError(msg)
    return manifest


def _check_free(path: Path, overwrite: bool) -> None:
    if path.exists() and not (overwrite and path.is_dir()):
        advice = (
            "it is no directory; choose another place" if overwrite else "choose another place or allow to overwrite"
        )
        msg = f"`{path}` exists already; {advice}"
        raise WriteError(msg)


def _put_in_place(partial: Path, path: Path) -> None:
    aside = path.parent / f".{path.name}.old-{os.getpid()}"
    if path.exists():
        path.rename(aside)
    try:
        partial.rename(path)
    except BaseException:
        if aside.exists():
            aside.rename(path)
        raise
    _fsync(path.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _not_written(path: Path, error: OSError) -> WriteError:
    reason = error.strerror or str(error)
    return WriteError(f"cannot write `{path}`: {reason}; nothing there was changed. Free some space or go elsewhere")


def _is_running(leftover: Path) -> bool:
    """Say whether another process that is alive owns a temporary directory; our own are leftovers by now."""
    pid = leftover.name.rpartition("-")[2]
    if not pid.isdigit() or int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _fsync_tree(directory: Path) -> None:
    for path in [*directory.rglob("*"), directory]:
        _fsync(path)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
