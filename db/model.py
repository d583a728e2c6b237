"""How a `kg.graph.Graph` lies in a graph database; the same in Neo4j and in LadybugDB.

    (:Source {source, kind, model, prompt, prompt_version, unit, quote, span, reply, reply_sha, tokens, shown})
        ^ every fact names its source: f.source = s.source
    (:Entity:User) -[:INTERACTED {timestamp, value, split}]-> (:Entity:Item)
    (:Entity:Item) -[:HAS_GENRE {relation, confidence, source}]-> (:Entity:Genre)      one for each source
    (:Hyperedge {hyperedge_id, relation, weight, source}) -[:MEMBER {role, position}]-> (:Entity)
    (:Entity | :Hyperedge) -[:HAS_TEXT]-> (:Text {row_key, entity_id, kind, text, source})
    (:Entity | :Hyperedge) -[:HAS_FEATURE]-> (:Feature {row_key, entity_id, kind, vector})
    (:Run {run}) -[:HAS_SOURCE]-> (:Source)
    (:KgliftStore {format, version})

Entities carry {entity_id, type, name, text}. A hyperedge is a node with one relationship for each member, never a
clique. `shown`, the interactions that a prompt showed, is a JSON text: neither nodes nor properties nest.

Two things differ. Neo4j gives an entity its type as a second label and a fact its relation as relationship type
(`has_genre` -> `HAS_GENRE`); LadybugDB's tables are declared ahead, so there every entity is an `Entity` and every fact
a `FACT`. A query that shall run on both matches `(:Entity {type: ...})` and `()-[f]->() WHERE f.relation = ...`.
"""

import json
import re
from typing import Final

import pyarrow as pa

from kg.graph import Graph
from kg.tables import SHOWN_TYPE, TABLES

STORE_FORMAT: Final = "kglift"
STORE_VERSION: Final = 2

ENTITY: Final = "Entity"
HYPEREDGE: Final = "Hyperedge"
SOURCE: Final = "Source"
TEXT: Final = "Text"
FEATURE: Final = "Feature"
RUN: Final = "Run"
STORE: Final = "KgliftStore"
BATCH: Final = "KgliftBatch"
LABELS: Final = (ENTITY, HYPEREDGE, SOURCE, TEXT, FEATURE, RUN, STORE, BATCH)

INTERACTED: Final = "INTERACTED"
FACT: Final = "FACT"
MEMBER: Final = "MEMBER"
HAS_TEXT: Final = "HAS_TEXT"
HAS_FEATURE: Final = "HAS_FEATURE"
HAS_SOURCE: Final = "HAS_SOURCE"
STRUCTURE: Final = (INTERACTED, MEMBER, HAS_TEXT, HAS_FEATURE, HAS_SOURCE)

_MAX_NAME: Final = 64
_PATTERNS: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "entities": ("(x:Entity)", {}),
    "interactions": (
        "(u:Entity)-[x:INTERACTED]->(i:Entity)",
        {"user_id": "u.entity_id", "item_id": "i.entity_id"},
    ),
    "triples": (
        "(h:Entity)-[x]->(t:Entity) WHERE x.relation IS NOT NULL",
        {"head": "h.entity_id", "tail": "t.entity_id"},
    ),
    "hyperedges": ("(x:Hyperedge)", {}),
    "members": (
        "(h:Hyperedge)-[x:MEMBER]->(e:Entity)",
        {"hyperedge_id": "h.hyperedge_id", "entity_id": "e.entity_id"},
    ),
    "texts": ("(x:Text)", {}),
    "features": ("(x:Feature)", {}),
    "sources": ("(x:Source)", {}),
}


def label_of(entity_type: str) -> str:
    """Return the Neo4j label of an entity type: letters, digits and `_`, never one of this model's own labels.

    The type itself is kept as a property, so nothing is lost when two types share a label.

    Example:
        >>> label_of("Genre"), label_of("Source"), label_of("a`) DETACH DELETE (b")
        ('Genre', 'Source_', 'a___DETACH_DELETE__b')
    """
    return _identifier(entity_type, LABELS)


def relationship_type_of(relation: str) -> str:
    """Return the Neo4j relationship type of a relation: upper case letters, digits and `_`.

    Example:
        >>> relationship_type_of("has_genre"), relationship_type_of("aspect/quality"), relationship_type_of("member")
        ('HAS_GENRE', 'ASPECT_QUALITY', 'MEMBER_')
    """
    return _identifier(relation.upper(), STRUCTURE)


def stored_schema(table: str) -> pa.Schema:
    """Return the columns in which a graph database holds one of the eight tables: `shown` as JSON text."""
    schema = TABLES[table].schema
    place = schema.get_field_index("shown")
    return schema if place < 0 else schema.set(place, pa.field("shown", pa.string()))


def stored_tables(graph: Graph) -> dict[str, pa.Table]:
    """Return the tables of a graph in the columns of `stored_schema`."""
    tables = graph.tables()
    sources = tables["sources"]
    shown = [None if pairs is None else json.dumps(pairs, ensure_ascii=False) for pairs in sources["shown"].to_pylist()]
    place = sources.schema.get_field_index("shown")
    tables["sources"] = sources.set_column(place, "shown", pa.array(shown, pa.string()))
    return tables


def graph_of(tables: dict[str, pa.Table]) -> Graph:
    """Build the graph from the columns of `stored_tables`.

    Raises:
        SchemaError: if the store holds something else than what was written.
    """
    sources = tables["sources"]
    shown = [None if text is None else json.loads(text) for text in sources["shown"].to_pylist()]
    place = sources.schema.get_field_index("shown")
    return Graph.from_tables(
        **{**tables, "sources": sources.set_column(place, "shown", pa.array(shown, SHOWN_TYPE))},
    )


def read_statement(table: str) -> str:
    """Return the Cypher that reads one of the eight tables, its columns in order."""
    pattern, columns = _PATTERNS[table]
    names = TABLES[table].schema.names
    return f"MATCH {pattern} RETURN " + ", ".join(f"{columns.get(n, 'x.' + n)} AS {n}" for n in names)


def delete_statements(fact: str) -> tuple[list[str], list[str]]:
    """Return the Cypher that counts and that removes the facts of some sources, parameter `sources`.

    Args:
        fact: the pattern of a fact `f`, which differs between databases.

    Returns:
        Statements that each return one count, and statements that delete, to be run in one transaction.
    """
    owned = "WHERE h.source IN $sources AND NOT EXISTS { MATCH (e:Entity) WHERE e.entity_id = h.hyperedge_id }"
    counts = [
        f"MATCH {fact} WHERE f.source IN $sources RETURN count(*) AS n",
        "MATCH (h:Hyperedge) WHERE h.source IN $sources RETURN count(*) AS n",
        "MATCH (t:Text) WHERE t.source IN $sources RETURN count(*) AS n",
    ]
    deletes = [
        f"MATCH {fact} WHERE f.source IN $sources DELETE f",
        f"MATCH (h:Hyperedge)-[:HAS_TEXT]->(t:Text) {owned} DETACH DELETE t",
        f"MATCH (h:Hyperedge)-[:HAS_FEATURE]->(t:Feature) {owned} DETACH DELETE t",
        "MATCH (h:Hyperedge) WHERE h.source IN $sources DETACH DELETE h",
        "MATCH (t:Text) WHERE t.source IN $sources DETACH DELETE t",
        "MATCH (s:Source) WHERE s.source IN $sources DETACH DELETE s",
    ]
    return counts, deletes


def orphan_statements() -> list[str]:
    """Return the Cypher that removes entities of which only some sources speak, parameter `sources`.

    Users and items stay, and so does what another fact, hyperedge or text is about. It must run before the facts of the
    sources go: afterwards nothing tells such an entity from one that never had a fact.
    """
    only = (
        "NOT e.type IN ['User', 'Item'] AND NOT EXISTS { MATCH (e)-[g]-(:Entity) WHERE NOT g.source IN $sources } "
        "AND NOT EXISTS { MATCH (e)<-[:MEMBER]-(o:Hyperedge) WHERE NOT o.source IN $sources } "
        "AND NOT EXISTS { MATCH (e)-[:HAS_TEXT]->(o:Text) WHERE NOT o.source IN $sources }"
    )
    spoken_of = (
        f"MATCH (e:Entity)-[f]-(:Entity) WHERE f.source IN $sources AND {only} WITH DISTINCT e",
        f"MATCH (e:Entity)<-[:MEMBER]-(h:Hyperedge) WHERE h.source IN $sources AND {only} WITH DISTINCT e",
        f"MATCH (e:Entity)-[:HAS_TEXT]->(t:Text) WHERE t.source IN $sources AND {only} WITH DISTINCT e",
    )
    ends = (
        "MATCH (e)-[:HAS_FEATURE]->(x:Feature) DETACH DELETE x",
        "OPTIONAL MATCH (e)-[:HAS_TEXT]->(x:Text) DETACH DELETE x, e",
    )
    return [f"{chosen} {end}" for chosen in spoken_of for end in ends]


def _identifier(name: str, taken: tuple[str, ...]) -> str:
    cleaned = re.sub(r"\W", "_", name)[:_MAX_NAME] or "_"
    return f"{cleaned}_" if cleaned in taken else cleaned
