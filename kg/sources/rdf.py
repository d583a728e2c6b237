"""RDF files: Turtle and N-Triples."""

from dataclasses import dataclass
from pathlib import Path

from kg.graph import Graph
from kg.rdf import format_of, read_rdf, write_rdf
from kg.source import ReadReport, Source


class RDF(Source, name="rdf"):
    """A Turtle (.ttl) or N-Triples (.nt) file of any origin; `kg.rdf` says what becomes of names, texts and literals.

    Written files hold entities, triples with confidence and source, and sources, and come back equal; not
    interactions, hyperedges, texts by a model or features.
    """

    @dataclass(frozen=True)
    class Config:
        """What to take.

        Attributes:
            name: of the data set, for facts whose source the file does not name; empty takes the name of the file.
            language: preferred language of names and texts.
        """

        name: str = ""
        language: str = "en"

    config: Config
    suffix = ".ttl"

    def read_with_report(self, path: Path) -> tuple[Graph, ReadReport]:
        """Read a file; see `Source.read_with_report`."""
        return read_rdf(path, name=self.config.name, language=self.config.language)

    def write(self, graph: Graph, path: Path) -> dict[str, int]:
        """Write a file whose format its name tells; see `Source.write`."""
        return write_rdf(graph, path, format_of(path))
