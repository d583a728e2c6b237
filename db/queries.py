"""Saved Cypher queries: files of `db/cypher`, found by name; each runs on every store."""

from importlib.resources import files

from db.errors import QueryError
from kg.errors import did_you_mean

_FOLDER = files("db") / "cypher"


def saved_queries() -> dict[str, str]:
    """Return what each saved query answers, by name: the first line of its file."""
    found = sorted(f.name.removesuffix(".cypher") for f in _FOLDER.iterdir() if f.name.endswith(".cypher"))
    return {name: load_query(name).splitlines()[0].removeprefix("// ") for name in found}


def load_query(name: str) -> str:
    """Return the Cypher of a saved query, for `GraphStore.query`.

    Example:
        >>> load_query("coverage_by_relation").splitlines()[1]
        'MATCH (h:Entity)-[f]->(t:Entity)'

    Raises:
        QueryError: if there is none of this name; the text suggests the nearest.
    """
    file = _FOLDER / f"{name}.cypher"
    if not name.isidentifier() or not file.is_file():
        known = [f.name.removesuffix(".cypher") for f in _FOLDER.iterdir()]
        msg = f"no saved query is called `{name}`; {did_you_mean(name, known)}"
        raise QueryError(msg)
    return file.read_text(encoding="utf-8")


def missing_parameters(names: str) -> str:
    """Say what a query lacks; both databases name it in words of their own."""
    first = names.partition(",")[0]
    return f"the query needs a value for {names}; give it, e.g. --param {first}=VALUE"
