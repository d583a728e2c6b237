"""Every public name says what it is; what follows a paper says which, and where it departs from it."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(p for name in ("kg", "gnn", "extract", "db", "kglift") for p in (ROOT / name).rglob("*.py"))


def public(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, str | None]]:
    """Yield each public class and function of a module with its docstring; methods that override inherit theirs."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) or node.name.startswith("_"):
            continue
        yield prefix + node.name, ast.get_docstring(node)
        if isinstance(node, ast.ClassDef):
            yield from public(node, prefix + node.name + ".")


@pytest.mark.parametrize("package", ["kg", "gnn", "extract", "db", "kglift"])
def test_every_public_name_has_a_docstring(package: str) -> None:
    bare = []
    for path in (p for p in MODULES if p.relative_to(ROOT).parts[0] == package):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        where = str(path.relative_to(ROOT))
        bare += [where] if ast.get_docstring(tree) is None and path.stat().st_size else []
        bare += [f"{where}: {name}" for name, text in public(tree) if not text]
    assert bare == []


def members() -> list[tuple[str, Any]]:
    from extract.method import Method
    from gnn.recommender import Recommender

    found = [(f"{family.__name__} {n}", m) for family in (Recommender, Method) for n, m in family.members().items()]
    for name in ("gnn.losses", "gnn.metrics"):
        module = importlib.import_module(name)
        functions = inspect.getmembers(module, inspect.isfunction)
        found += [(f"{name}.{n}", f) for n, f in functions if not n.startswith("_") and f.__module__ == module.__name__]
    from kg.controls import random_graph
    from kg.fuse import fuse
    from kg.resolve import resolve

    return [*found, *((f.__name__, f) for f in (fuse, resolve, random_graph))]


def test_what_follows_a_paper_names_its_source_and_its_deviations() -> None:
    lacking = []
    for name, member in members():
        text = inspect.getdoc(member) or ""
        if inspect.isclass(member):
            text += inspect.getdoc(inspect.getmodule(member)) or ""
        lacking += [f"{name}: {section}" for section in ("Source", "Deviations") if f"{section}:" not in text]
    assert lacking == []
