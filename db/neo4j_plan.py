"""What a query would do beside reading the graph, by the plan that the server makes of it.

A session in read mode refuses writes to the graph, and lets through `LOAD CSV`, which reads files of the server and
addresses that only it can reach, and procedures and commands that change the server itself. Community Edition has no
users who may only read, so the plan is looked at before the query runs.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from db.errors import QueryError

READING_PROCEDURES: Final = (
    "db.index.fulltext.listAvailableAnalyzers",
    "db.index.fulltext.queryNodes",
    "db.index.fulltext.queryRelationships",
    "db.index.vector.queryNodes",
    "db.index.vector.queryRelationships",
    "db.info",
    "db.labels",
    "db.ping",
    "db.propertyKeys",
    "db.relationshipTypes",
    "db.schema.nodeTypeProperties",
    "db.schema.relTypeProperties",
    "db.schema.visualization",
    "dbms.components",
    "dbms.info",
)
_REFUSED: Final = {
    "LoadCSV": "reads a file or an address of the server",
    "TerminateTransactions": "stops what others run on the server",
}


def check_plan(plan: Mapping[str, Any] | None) -> None:
    """Refuse a query that reaches beyond the graph.

    Args:
        plan: what the server returns for `EXPLAIN`; None where it has none to show.

    Raises:
        QueryError: naming the operator or the procedure.
    """
    for operator, details in _operators(plan):
        if operator in _REFUSED:
            msg = f"the query {_REFUSED[operator]} ({operator}), and queries may only read the graph; leave it out"
            raise QueryError(msg)
        procedure = details.partition("(")[0]
        if operator == "ProcedureCall" and procedure not in READING_PROCEDURES:
            msg = (
                f"the query calls `{procedure}`, and queries may only call {', '.join(READING_PROCEDURES)}; "
                "to let it change something, `write=True` or --write"
            )
            raise QueryError(msg)


def _operators(plan: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if plan is not None:
        yield str(plan["operatorType"]).partition("@")[0], str(plan.get("args", {}).get("Details", ""))
        for child in plan.get("children", ()):
            yield from _operators(child)
