"""What fusion needs from outside `kg`: the encoder that is asked about names, and how a fused graph was made."""

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import platformdirs
import pyarrow as pa

from kg.config import build_config
from kg.errors import FileFormatError
from kg.files import GRAPH_FORMAT, read_manifest
from kg.fuse import FuseConfig
from kg.resolve import DECISIONS, Resolution
from kg.similar import Encoder
from kglift.downloads import fetch

ENCODER = "all-minilm-l6-v2"
_VECTORS = "vectors.sqlite"


def encoder_for(config: FuseConfig, tell: Callable[[str], None] = lambda _terms: None) -> Encoder | None:
    """Return the sentence encoder that a fusion asks, fetched when needed; None if it asks none.

    Args:
        config: how graphs are fused.
        tell: called with licence terms before something is downloaded.
    """
    return sentence_encoder(tell) if asks_encoder(config) else None


def asks_encoder(config: FuseConfig) -> bool:
    """Say whether a fusion asks about names by meaning, too."""
    return config.min_meaning < 1.0 and config.is_resolving and config.decisions is None


def sentence_encoder(tell: Callable[[str], None] = lambda _terms: None) -> Encoder:
    """Return the sentence encoder, fetched when needed; its vectors are kept in the user's cache.

    Args:
        tell: called with licence terms before something is downloaded.
    """
    from extract.encode import SentenceEncoder

    return SentenceEncoder(fetch(ENCODER, tell), platformdirs.user_cache_path("kglift") / _VECTORS)


def fused_by(directory: Path) -> tuple[FuseConfig, dict[str, Any], Resolution]:
    """Read how a fused graph was made.

    Returns:
        The configuration, the report, and what was merged.

    Raises:
        FileFormatError: if the directory was not written by a fusion.
    """
    values = read_manifest(directory, GRAPH_FORMAT)["config"]
    known = {field.name for field in fields(FuseConfig)}
    config = build_config(FuseConfig, {k: v for k, v in values.items() if k in known and v is not None})
    path = directory / "fusion.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        return config, report, Resolution(pa.Table.from_pylist(report["merged"], schema=DECISIONS))
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"`{path}` is no report of a fusion: {error}; give a directory that `kglift fuse` wrote"
        raise FileFormatError(msg) from error
