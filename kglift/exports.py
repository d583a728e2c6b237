"""Taking a graph out in another format, by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kg.config import build_config
from kg.errors import UnknownNameError, did_you_mean
from kg.graph import Graph
from kg.source import Source

HIF = "hif"


def export(graph: Graph, kind: str, path: Path, settings: Mapping[str, Any]) -> dict[str, int]:
    """Write a graph in an exchange format.

    Args:
        graph: what to write.
        kind: `hif`, or a member of `kg.sources`: rdf, graphml, recbole, ...
        path: file or folder to make.
        settings: configuration of the source.

    Returns:
        Table -> rows that the format has no place for.

    Raises:
        UnknownNameError: if there is no such format.
    """
    if kind == HIF:
        from kg.hif import write_hif

        return write_hif(graph, path)
    sources = Source.members()
    if kind not in sources:
        msg = f"unknown format `{kind}`; {did_you_mean(kind, [HIF, *sources])}"
        raise UnknownNameError(msg)
    cls = sources[kind]
    return cls(build_config(cls.Config, settings, where=f"source `{kind}`")).write(graph, path)
