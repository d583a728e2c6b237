"""`ladybug`: an embedded graph database in one file, with Cypher (LadybugDB, the successor of Kuzu)."""

import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import ladybug
import pyarrow as pa
import pyarrow.compute as pc

from db.errors import DbError, QueryError, StoreFormatError, StoreWriteError
from db.ladybug_file import LadybugConfig, LadybugFile, has_store, no_store, one_line
from db.ladybug_read import read_tables
from db.merge import delta, digest_key
from db.model import STORE_FORMAT, STORE_VERSION, delete_statements, graph_of, orphan_statements, stored_tables
from db.neighbours import neighbour_statements, neighbour_table
from db.queries import missing_parameters
from db.store import GraphStore
from kg.graph import Graph
from kg.progress import Progress, silent
from kg.tables import TABLES

__all__ = ["LadybugConfig", "LadybugStore"]

_FACT = "(h:Entity)-[f:FACT]->(t:Entity)"
_SCHEMA = (
    "CREATE NODE TABLE KgliftStore(format STRING PRIMARY KEY, version INT64)",
    "CREATE NODE TABLE Source(source STRING PRIMARY KEY, kind STRING, model STRING, prompt STRING, "
    "prompt_version STRING, unit STRING, quote STRING, span STRING, reply STRING, reply_sha STRING, tokens INT64, "
    "shown STRING)",
    "CREATE NODE TABLE Entity(entity_id STRING PRIMARY KEY, type STRING, name STRING, text STRING)",
    "CREATE NODE TABLE Hyperedge(hyperedge_id STRING PRIMARY KEY, relation STRING, weight DOUBLE, source STRING)",
    "CREATE NODE TABLE Text(row_key STRING PRIMARY KEY, entity_id STRING, kind STRING, text STRING, source STRING)",
    "CREATE NODE TABLE Feature(row_key STRING PRIMARY KEY, entity_id STRING, kind STRING, vector FLOAT[])",
    "CREATE REL TABLE INTERACTED(FROM Entity TO Entity, timestamp INT64, value DOUBLE, split STRING)",
    "CREATE REL TABLE FACT(FROM Entity TO Entity, relation STRING, confidence DOUBLE, source STRING)",
    "CREATE REL TABLE MEMBER(FROM Hyperedge TO Entity, role STRING, position INT32)",
    "CREATE REL TABLE HAS_TEXT(FROM Entity TO Text, FROM Hyperedge TO Text)",
    "CREATE REL TABLE HAS_FEATURE(FROM Entity TO Feature, FROM Hyperedge TO Feature)",
    "CREATE NODE TABLE Run(run STRING PRIMARY KEY)",
    "CREATE REL TABLE HAS_SOURCE(FROM Run TO Source)",
)
_NODES = {"sources": "Source", "entities": "Entity", "hyperedges": "Hyperedge", "texts": "Text", "features": "Feature"}
_ATTACHED = {"texts": "HAS_TEXT", "features": "HAS_FEATURE"}
_RELATIONSHIPS = {
    "interactions": ("INTERACTED", ["user_id", "item_id", "timestamp", "value", "split"]),
    "triples": ("FACT", ["head", "tail", "relation", "confidence", "source"]),
    "members": ("MEMBER", ["hyperedge_id", "entity_id", "role", "position"]),
}
_UPDATES = {
    "interactions": (
        "MATCH (u:Entity {entity_id: new_user_id})-[f:INTERACTED]->(i:Entity {entity_id: new_item_id}) "
        "SET f.timestamp = new_timestamp, f.value = new_value, f.split = new_split"
    ),
    "triples": (
        "MATCH (h:Entity {entity_id: new_head})-[f:FACT]->(t:Entity {entity_id: new_tail}) "
        "WHERE f.relation = new_relation AND f.source = new_source SET f.confidence = new_confidence"
    ),
}
_QUOTED = re.compile(r"//[^\n]*|/\*.*?\*/|'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|`[^`]*`", re.DOTALL)
_FILES = re.compile(
    r"\b(COPY|EXPORT|IMPORT|LOAD|INSTALL|UNINSTALL|ATTACH|DETACH\s+DATABASE|CHECKPOINT)\b", re.IGNORECASE
)

_READERS = re.compile(r"\b(READ_(?:CSV|PARQUET|NPY|PANDAS)\w*)", re.IGNORECASE)  # called directly, they end the process


def _refuse_files(cypher: str) -> None:
    """Refuse statements that reach beyond the store, which LadybugDB's read-only mode lets through."""
    named = _QUOTED.sub(lambda quoted: quoted[0] if quoted[0].startswith("`") else " ", cypher)
    if found := _FILES.search(_QUOTED.sub(" ", cypher)) or _READERS.search(named):
        msg = f"`{found[1].upper()}` reads or writes files outside the store; a query may only read the graph"
        raise QueryError(msg)


class LadybugStore(GraphStore, name="ladybug"):
    """Keep the graph in one file.

    Each call opens the file and closes it again, so others may use it between the calls; who comes meanwhile waits, at
    most `wait_s`. A write is one transaction: a killed one leaves what was there, and repeating it completes it.
    """

    Config = LadybugConfig

    def __init__(self, config: LadybugConfig) -> None:
        super().__init__(config)
        self.file = LadybugFile(config)
        self.path = self.file.path

    def write(self, graph: Graph, progress: Progress = silent) -> None:
        """Add a graph in one transaction; of two rows with one key the last written stays.

        Raises:
            StoreWriteError: if the disk is full or read-only; it says whether what was there was found whole.
            StoreUnreachableError: if somebody else has the file for longer than `wait_s`.
            StoreFormatError: if the file is no kglift store.
        """
        incoming = stored_tables(graph)
        total = sum(len(table) for table in incoming.values())
        with self._transaction() as connection:
            stored = _read_tables(connection)
            done = 0
            for name in (*_NODES, *_RELATIONSHIPS):
                _write_table(connection, name, stored[name], incoming)
                done += len(incoming[name])
                progress(done, total, name)

    def read(self) -> Graph:
        """Return everything that was written.

        Raises:
            StoreFormatError: if nothing was, or the file is no kglift store.
        """
        with self._reading() as connection:
            return graph_of(_read_tables(connection))

    def query(
        self,
        cypher: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = 60.0,
        max_rows: int | None = None,
        write: bool = False,
    ) -> pa.Table:
        """Answer a Cypher query; the file is opened read-only for it unless it may write.

        Raises:
            QueryError: if the query is wrong, writes without leave, or takes longer than `timeout_s`.
            StoreFormatError: if nothing was written yet.
        """
        _refuse_files(cypher)
        with self._reading() as connection:
            connection.set_query_timeout(max(1, int(timeout_s * 1000)))
            if not write:
                return _answer(connection, cypher, parameters or {}, timeout_s, max_rows)
        with self._transaction() as connection:
            connection.set_query_timeout(max(1, int(timeout_s * 1000)))
            return _answer(connection, cypher, parameters or {}, timeout_s, max_rows)

    def neighbours(self, entity_id: str, *, limit: int = 100) -> pa.Table:
        """Return the facts around one entity or hyperedge, as `GraphStore.neighbours`."""
        parameters = {"id": entity_id, "limit": limit}
        with self._reading() as connection:
            answers = [_answer(connection, cypher, parameters) for cypher in neighbour_statements()]
        return neighbour_table(answers, limit)

    def delete(self, *sources: str, orphans: bool = False) -> int:
        """Remove the facts of some sources; returns how many triples, hyperedges and texts that were."""
        counts, deletes = delete_statements(_FACT)
        with self._reading():
            pass  # there is a store: a deletion makes none
        with self._transaction() as connection:
            removed = sum(_answer(connection, c, {"sources": list(sources)})["n"][0].as_py() for c in counts)
            for statement in (*(orphan_statements() if orphans else ()), *deletes):
                connection.execute(statement, {"sources": list(sources)})
        return int(removed)

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        if not self.path.exists():
            msg = f"there is no store at `{self.path}`; write a graph first: python -m db load DIR --path {self.path}"
            raise StoreFormatError(msg)
        with (
            self.file.alone(),
            self.file.opened(read_only=True) as database,
            closing(ladybug.Connection(database)) as connection,
        ):
            self._check_version(connection)
            yield connection

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        is_new = not self.path.exists()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with (
                self.file.alone(),
                self.file.opened_to_write() as database,
                closing(ladybug.Connection(database)) as connection,
            ):
                connection.execute("BEGIN TRANSACTION")
                self._check_version(connection, create=True)
                yield connection
                connection.execute("COMMIT")
        except (RuntimeError, OSError) as error:
            if isinstance(error, DbError):
                raise
            # LadybugDB may say that what it committed will be recovered; on a full disk it is not, so that is left out
            text = one_line(error).rpartition("recovered on restart: ")[2]
            state = "nothing was there before" if is_new else self._state()
            msg = f"cannot write `{self.path}`: {text}; {state}. Free some space and write it again"
            raise StoreWriteError(msg) from error

    def _state(self) -> str:
        try:
            with self._reading():
                return "what was there is whole"
        except DbError as error:
            return f"what was there cannot be seen now ({error})"

    def _check_version(self, connection: Any, *, create: bool = False) -> None:
        if has_store(connection, self.path):
            return
        if not create:
            raise no_store(self.path, "nothing yet")
        for statement in _SCHEMA:
            connection.execute(statement)
        about = {"format": STORE_FORMAT, "version": STORE_VERSION}
        connection.execute("CREATE (:KgliftStore {format: $format, version: $version})", about)


def _read_tables(connection: Any) -> dict[str, pa.Table]:
    return read_tables(lambda cypher: _answer(connection, cypher, {}))


def _write_table(connection: Any, name: str, stored: pa.Table, incoming: dict[str, pa.Table]) -> None:
    change = delta(name, stored, incoming[name])
    if len(change.absent):
        if name in _NODES:
            _copy(connection, _NODES[name], _with_row_key(name, change.absent))
        else:
            relationship, columns = _RELATIONSHIPS[name]
            _copy(connection, relationship, change.absent.select(columns))
        if name in _ATTACHED:
            _attach(connection, name, change.absent, incoming)
    if len(change.changed):
        rows = _with_row_key(name, change.changed)
        rows = rows.rename_columns([f"new_{column}" for column in rows.column_names])
        connection.execute(f"LOAD FROM $rows {_update(name)}", {"rows": rows})


def _update(name: str) -> str:
    if name in _UPDATES:
        return _UPDATES[name]
    spec = TABLES[name]
    key = "row_key" if name in _ATTACHED else spec.key[0]
    settings = ", ".join(f"x.{column} = new_{column}" for column in spec.schema.names if column not in spec.key)
    return f"MATCH (x:{_NODES[name]} {{{key}: new_{key}}}) SET {settings}"


def _with_row_key(name: str, rows: pa.Table) -> pa.Table:
    return rows.add_column(0, "row_key", digest_key(rows, TABLES[name].key)) if name in _ATTACHED else rows


def _attach(connection: Any, name: str, rows: pa.Table, incoming: dict[str, pa.Table]) -> None:
    ends = pa.table({"from": rows["entity_id"], "to": digest_key(rows, TABLES[name].key)})
    is_entity = pc.is_in(ends["from"], value_set=incoming["entities"]["entity_id"].combine_chunks())
    for label, chosen in (("Entity", is_entity), ("Hyperedge", pc.invert(is_entity))):
        _copy(connection, _ATTACHED[name], ends.filter(chosen), f' (from="{label}", to="{_NODES[name]}")')


def _copy(connection: Any, table: str, rows: pa.Table, options: str = "") -> None:
    if len(rows):
        connection.execute(f"COPY {table} FROM $rows{options}", {"rows": rows.combine_chunks()})


def _answer(
    connection: Any,
    cypher: str,
    parameters: Mapping[str, Any],
    timeout_s: float | None = None,
    max_rows: int | None = None,
) -> pa.Table:
    try:
        # A parameter of our own makes ladybug prepare the text: one statement only, and every $name must be given.
        result = connection.execute(cypher, {**parameters, "kglift_prepares_this": True})
        names = result.get_column_names()
        if twice := [name for name in names if names.count(name) > 1]:
            msg = f"two columns are called `{twice[0]}`; give each a name of its own, e.g. {twice[0]} AS other"
            raise QueryError(msg)
        return result.get_as_arrow().slice(0, max_rows) if names else pa.table({})
    except RuntimeError as error:
        text = one_line(error)
        if "Interrupted" in text:
            msg = f"the query took longer than {timeout_s} s and was stopped; narrow it or allow more time"
        elif "read-only" in text:
            msg = f"the query writes, and queries may only read ({text}); let it, by `write=True` or --write"
        elif missing := re.search(r"Parameter (\w+) not found", text):
            msg = missing_parameters(missing[1])
        else:
            msg = f"the query was refused: {text}"
        raise QueryError(msg) from error
