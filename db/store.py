"""The contract of a graph store: what was written is read back, fact by fact."""

from abc import abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Any, ClassVar, Self

import pyarrow as pa

from kg.graph import Graph
from kg.progress import Progress, silent
from kg.registry import Registered


class GraphStore(Registered, package="db"):
    """A place that keeps one graph and answers Cypher; a member is one file, `NAME_store.py`."""

    Config: ClassVar[type[Any]]

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def write(self, graph: Graph, progress: Progress = silent) -> None:
        """Add a graph; writing it twice is the same as once.

        Raises:
            StoreWriteError: if the store refuses; nothing that was there is lost.
        """

    @abstractmethod
    def read(self) -> Graph:
        """Return everything that was written, equal in every fact.

        Raises:
            StoreFormatError: if nothing was written yet, or by another version.
        """

    @abstractmethod
    def query(
        self,
        cypher: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = 60.0,
        max_rows: int | None = None,
        write: bool = False,
    ) -> pa.Table:
        """Answer a Cypher query as an Arrow table, one column for each returned name.

        Args:
            cypher: one statement.
            parameters: its parameters; the only way for values into a query.
            timeout_s: when to stop it.
            max_rows: how many rows to fetch at most; None for all.
            write: let it change the store, which otherwise refuses.

        Raises:
            QueryError: if the query is wrong, writes without leave, or takes longer than `timeout_s`.
        """

    @abstractmethod
    def neighbours(self, entity_id: str, *, limit: int = 100) -> pa.Table:
        """Return the facts around one entity.

        Returns:
            Columns entity_id, relation, direction (out, in), neighbour_id, confidence, source; hyperedges appear as
            neighbours with relation `member/ROLE`, interactions with relation `interacts`.
        """

    @abstractmethod
    def delete(self, *sources: str, orphans: bool = False) -> int:
        """Remove the facts of some sources; facts that another source also states stay. Returns the number removed.

        Args:
            sources: their names.
            orphans: remove the entities that nothing but these facts speaks of, too; users and items stay.
        """

    def close(self) -> None:
        """Release the store."""

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the store."""
        self.close()
