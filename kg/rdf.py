"""RDF: Turtle and N-Triples in and out, with confidence and source by reification.

An id that is an IRI already stays one; any other id becomes `urn:kglift:id:` and the percent-coded id, a relation
`urn:kglift:relation:...`, a type `urn:kglift:type:...`, a source `urn:kglift:source:...`. A triple is one statement.
It alone says: confidence 1 and the source that the file names as its default (`urn:kglift:graph`
`urn:kglift:term:default_source`). Anything else is said by `rdf:Statement` nodes about it, one for each row of the
triples table, with `urn:kglift:term:confidence` and `urn:kglift:term:source`; where a triple has such nodes, they
alone count. Names are `rdfs:label`, texts `rdfs:comment`, sources nodes with one literal for each column.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, unquote

from kg.assemble import ENTITY, readable_name
from kg.delimited import plain_name, read_utf8
from kg.errors import FileFormatError
from kg.files import write_file
from kg.graph import Graph
from kg.source import ReadReport, left_out
from kg.tables import TABLES
from kg.terms import DATASET

if TYPE_CHECKING:
    import rdflib

Format = Literal["turtle", "nt"]

NAME_PREDICATES = (
    "http://www.w3.org/2000/01/rdf-schema#label",
    "http://www.w3.org/2004/02/skos/core#prefLabel",
    "http://xmlns.com/foaf/0.1/name",
    "http://schema.org/name",
)
TEXT_PREDICATES = (
    "http://www.w3.org/2000/01/rdf-schema#comment",
    "http://dbpedia.org/ontology/abstract",
    "http://purl.org/dc/terms/description",
    "http://schema.org/description",
)
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_TYPE = f"{_RDF}type"
_BASE = "urn:kglift:"
_TERM = f"{_BASE}term:"
_PREFIXES = {"rdf": _RDF, "rdfs": "http://www.w3.org/2000/01/rdf-schema#", "term": _TERM}
_GRAPH = f"{_BASE}graph"
_IRI = re.compile(r"""(https?|urn|ftp|tag):[^\x00-\x20\x7f-\xa0\s<>"{}|\\^`]+""")
_SUFFIXES: dict[str, Format] = {".ttl": "turtle", ".nt": "nt"}


def write_rdf(graph: Graph, path: Path, format: Format = "turtle") -> dict[str, int]:
    """Write entities, triples and sources as RDF; equal graphs give equal bytes.

    Args:
        graph: what to write.
        path: the file to make.
        format: `turtle` or `nt` (N-Triples).

    Returns:
        Table -> rows that were left out: RDF keeps no interactions, hyperedges, texts by a model or features.

    Raises:
        FileFormatError: for an unknown format.
        WriteError: if the place is taken, or the disk is full or read-only.
    """
    if format not in _SUFFIXES.values():
        msg = f"unknown RDF format `{format}`; expected turtle or nt"
        raise FileFormatError(msg)
    data: bytes = _to_rdf(graph.canonical()).serialize(format=format, encoding="utf-8")
    if format == "nt":
        data = b"".join(sorted(data.splitlines(keepends=True)))
    write_file(Path(path), data)
    return left_out(graph, "triples")


def read_rdf(path: Path, *, name: str = "", language: str = "en") -> tuple[Graph, ReadReport]:
    """Read Turtle (.ttl) or N-Triples (.nt), perhaps gzipped, of any origin.

    Of several names or texts that in `language` is taken, else one without a language, else the first in the alphabet.
    Literals that are neither are counted under their predicate; blank nodes get ids that do not depend on their labels.

    Args:
        path: the file.
        name: of the data set, for facts whose source the file does not name; empty takes the name of the file.
        language: preferred language of names and texts.

    Raises:
        FileFormatError: if the file is missing, empty, not UTF-8 or no valid RDF; the text names the line.
    """
    path = Path(path)
    parsed = _parse(path)
    read = _Reading(f"dataset:{name or plain_name(path)}", language)
    for head, predicate, tail in parsed:
        read.take(head, predicate, tail)
    try:
        return read.finish()
    except FileFormatError as error:
        error.add_note(f"in `{path}`")
        raise


def format_of(path: Path) -> Format:
    """Return the RDF format that a file name stands for.

    Raises:
        FileFormatError: for a name that ends neither in .ttl nor in .nt (nor with .gz behind).
    """
    suffix = Path(Path(path).name.removesuffix(".gz")).suffix
    if suffix not in _SUFFIXES:
        msg = f"`{path}` is neither .ttl (Turtle) nor .nt (N-Triples); rename or convert it"
        raise FileFormatError(msg)
    return _SUFFIXES[suffix]


@dataclass
class _Reading:
    """What the statements of a file say, sorted out."""

    default: str
    language: str
    triples: list[tuple[str, str, str]] = field(default_factory=list)
    types: dict[str, str] = field(default_factory=dict)
    names: dict[str, list[tuple[int, int, str]]] = field(default_factory=dict)
    texts: dict[str, list[tuple[int, int, str]]] = field(default_factory=dict)
    entities: dict[str, None] = field(default_factory=dict)
    statements: dict[str, dict[str, str]] = field(default_factory=dict)
    sources: dict[str, dict[str, str]] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    n_literals: int = 0

    def take(self, head: Any, predicate: Any, tail: Any) -> None:
        about = str(head)
        if about == _GRAPH:
            self.default = _from_iri("source", str(tail))
        elif about.startswith(f"{_BASE}source:"):
            self.sources.setdefault(_from_iri("source", about), {})[str(predicate).removeprefix(_TERM)] = str(tail)
        elif about.startswith(f"{_BASE}statement:"):
            part = str(predicate).removeprefix(_RDF).removeprefix(_TERM)
            self.statements.setdefault(about, {})[part] = str(tail)
        else:
            self._fact(_entity_id(head), str(predicate), tail)

    def _fact(self, head: str, predicate: str, tail: Any) -> None:
        import rdflib

        self.entities[head] = None
        if isinstance(tail, rdflib.Literal):
            self.n_literals += 1
            self._literal(head, predicate, tail)
        elif predicate == _TYPE and str(tail).startswith(f"{_BASE}type:"):
            self.types[head] = _from_iri("type", str(tail))
        else:
            self.entities[_entity_id(tail)] = None
            self.triples.append((head, _from_iri("relation", predicate), _entity_id(tail)))

    def _literal(self, head: str, predicate: str, tail: "rdflib.Literal") -> None:
        rank = {self.language: 0, None: 1}.get(tail.language, 2)
        for known, found in ((NAME_PREDICATES, self.names), (TEXT_PREDICATES, self.texts)):
            if predicate in known:
                found.setdefault(head, []).append((rank, known.index(predicate), str(tail)))
                return
        self.ignored[predicate] += 1

    def finish(self) -> tuple[Graph, ReadReport]:
        triples = list(self._rows())
        entities = [
            {
                "entity_id": entity,
                "type": self.types.get(entity, ENTITY),
                "name": min(self.names[entity])[2] if entity in self.names else readable_name(entity),
                "text": min(self.texts[entity])[2] if entity in self.texts else None,
            }
            for entity in self.entities
        ]
        used = {row["source"] for row in triples} - self.sources.keys()
        sources = [{"source": s, "kind": DATASET} for s in sorted(used)]
        sources += [{"source": s, **_source_columns(columns)} for s, columns in self.sources.items()]
        surplus = sum(len(found) - 1 for kind in (self.names, self.texts) for found in kind.values())
        dropped = dict(sorted(self.ignored.items())) | ({"other_name_or_text": surplus} if surplus else {})
        report = ReadReport(
            {"triples": len(triples), "literals": self.n_literals}, {"literals": dropped} if dropped else {}
        )
        return Graph.from_rows(entities=entities, triples=triples, sources=sources), report

    def _rows(self) -> Iterator[dict[str, Any]]:
        said = set()
        for node, parts in self.statements.items():
            if lost := {"subject", "predicate", "object", "confidence", "source"} - parts.keys():
                msg = f"statement `{node}` has no {', '.join(sorted(lost))}; write the file again"
                raise FileFormatError(msg)
            key = tuple(
                _from_iri(kind, parts[part])
                for kind, part in (("id", "subject"), ("relation", "predicate"), ("id", "object"))
            )
            said.add(key)
            yield _row(key, _decoded("confidence", parts["confidence"]), _from_iri("source", parts["source"]))
        for key in self.triples:
            if key not in said:
                yield _row(key, 1.0, self.default)


def _row(key: tuple[str, ...], confidence: float, source: str) -> dict[str, Any]:
    return {**dict(zip(("head", "relation", "tail"), key, strict=True)), "confidence": confidence, "source": source}


def _source_columns(columns: dict[str, str]) -> dict[str, Any]:
    known = {column: text for column, text in columns.items() if column in TABLES["sources"].schema.names}
    return known | {column: _decoded(column, known[column]) for column in ("tokens", "shown") if column in known}


def _decoded(what: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        msg = f"`{_TERM}{what}` is `{text[:80]}`, which cannot be read ({error}); correct it or write the file again"
        raise FileFormatError(msg) from error


def _entity_id(node: Any) -> str:
    import rdflib

    return f"bnode:{node}" if isinstance(node, rdflib.BNode) else _from_iri("id", str(node))


def _parse(path: Path) -> "rdflib.Graph":
    import rdflib
    from rdflib.compare import to_canonical_graph

    data, parsed = read_utf8(path), rdflib.Graph("SimpleMemory", bind_namespaces="none")
    try:
        parsed.parse(data=data, format=format_of(path))
    except (SyntaxError, ValueError, LookupError, AttributeError, rdflib.exceptions.ParserError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        msg = f"`{path}` is not valid {format_of(path)}: {' '.join(lines)[:200]}; correct that line"
        raise FileFormatError(msg) from error
    if any(isinstance(term, rdflib.BNode) for statement in parsed for term in statement):
        return to_canonical_graph(parsed)
    return parsed


def _to_rdf(graph: Graph) -> "rdflib.Graph":
    import rdflib

    out, iri, literal = rdflib.Graph("SimpleMemory", bind_namespaces="none"), rdflib.URIRef, rdflib.Literal
    for prefix, namespace in _PREFIXES.items():
        out.bind(prefix, namespace)
    for row in graph.entities.to_pylist():
        node = iri(_to_iri("id", row["entity_id"]))
        out.add((node, iri(_TYPE), iri(_to_iri("type", row["type"]))))
        out.add((node, iri(NAME_PREDICATES[0]), literal(row["name"])))
        if row["text"] is not None:
            out.add((node, iri(TEXT_PREDICATES[0]), literal(row["text"])))
    for row in graph.sources.to_pylist():
        node = iri(_to_iri("source", row.pop("source")))
        for column, value in row.items():
            if value is not None:
                text = json.dumps(value, ensure_ascii=False) if column == "shown" else value
                out.add((node, iri(_TERM + column), literal(text)))
    default, rows = _default_source(graph), graph.triples.to_pylist()
    out.add((iri(_GRAPH), iri(f"{_TERM}default_source"), iri(_to_iri("source", default))))
    n_rows = Counter((r["head"], r["relation"], r["tail"]) for r in rows)
    for row in rows:
        key = (row["head"], row["relation"], row["tail"])
        kinds = ("id", "relation", "id")
        statement = [iri(_to_iri(kind, part)) for kind, part in zip(kinds, key, strict=True)]
        out.add((statement[0], statement[1], statement[2]))
        if n_rows[key] > 1 or row["confidence"] != 1.0 or row["source"] != default:
            digest = hashlib.sha256("\n".join((*statement, row["source"])).encode("utf-8")).hexdigest()
            node = iri(f"{_BASE}statement:{digest[:32]}")
            out.add((node, iri(_TYPE), iri(f"{_RDF}Statement")))
            for part, value in zip(("subject", "predicate", "object"), statement, strict=True):
                out.add((node, iri(_RDF + part), value))
            # a typed xsd:double would lose digits: rdflib writes it to Turtle with six of them
            out.add((node, iri(f"{_TERM}confidence"), literal(repr(row["confidence"]))))
            out.add((node, iri(f"{_TERM}source"), iri(_to_iri("source", row["source"]))))
    return out


def _default_source(graph: Graph) -> str:
    sure = Counter(
        r["source"] for r in graph.triples.select(["source", "confidence"]).to_pylist() if r["confidence"] == 1
    )
    return min(sure, key=lambda s: (-sure[s], s)) if sure else f"{DATASET}:unknown"


def _to_iri(kind: str, text: str) -> str:
    if kind in ("id", "relation") and _IRI.fullmatch(text) and not text.startswith(_BASE):
        return text
    return f"{_BASE}{kind}:{quote(text, safe='')}"


def _from_iri(kind: str, iri: str) -> str:
    prefix = f"{_BASE}{kind}:"
    return unquote(iri.removeprefix(prefix)) if iri.startswith(prefix) else iri
