"""Taking a graph out in another format, by name."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kg.config import build_config
from kg.errors import UnknownNameError, did_you_mean
from kg.graph import Graph
from kg.source import Source


def _rdf(graph: Graph, path: Path) -> None:
    from kg.rdf import write_rdf

    write_rdf(graph, path)


def _graphml(graph: Graph, path: Path) -> None:
    from kg.nx import write_graphml

    write_graphml(graph, path)


def _hif(graph: Graph, path: Path) -> None:
    from kg.hif import write_hif

    write_hif(graph, path)


_FORMATS: dict[str, Callable[[Graph, Path], None]] = {"rdf": _rdf, "graphml": _graphml, "hif": _hif}


def export(graph: Graph, kind: str, path: Path, settings: Mapping[str, Any]) -> None:
    """Write a graph in an exchange format or in the format of a source.

    Args:
        graph: what to write.
        kind: `rdf`, `graphml`, `hif`, or a member of `kg.sources` that can write.
        path: file or folder to make.
        settings: configuration of the source.

    Raises:
        UnknownNameError: if there is no such format.
    """
    if kind in _FORMATS:
        _FORMATS[kind](graph, path)
        return
    sources = Source.members()
    if kind not in sources:
        msg = f"unknown format `{kind}`; {did_you_mean(kind, [*_FORMATS, *sources])}"
        raise UnknownNameError(msg)
    cls = sources[kind]
    cls(build_config(cls.Config, settings, where=f"source `{kind}`")).write(graph, path)
