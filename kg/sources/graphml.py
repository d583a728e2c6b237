"""GraphML files, by networkx."""

from dataclasses import dataclass
from pathlib import Path

from kg.graph import Graph
from kg.nx import read_graphml, write_graphml
from kg.source import ReadReport, Source


class GraphML(Source, name="graphml"):
    """A GraphML file of any origin; `kg.nx` says which attributes are used.

    Written files hold everything but texts by a model and features, and come back equal.
    """

    @dataclass(frozen=True)
    class Config:
        """What the data set is called.

        Attributes:
            name: of the data set, for edges without a source; empty takes the name of the file.
        """

        name: str = ""

    config: Config
    suffix = ".graphml"

    def read_with_report(self, path: Path) -> tuple[Graph, ReadReport]:
        """Read a file; see `Source.read_with_report`."""
        return read_graphml(path, name=self.config.name)

    def write(self, graph: Graph, path: Path) -> dict[str, int]:
        """Write a file; see `Source.write`."""
        return write_graphml(graph, path)
