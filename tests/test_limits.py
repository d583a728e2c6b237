"""The limits of the house: modules of at most 400 lines, functions of at most 40 lines of code."""

import ast
from pathlib import Path

_ROOT = Path(__file__).parent.parent
_PACKAGES = ("kg", "extract", "db", "gnn", "kglift")
_MODULES = sorted(p for folder in (*_PACKAGES, "tests") for p in (_ROOT / folder).rglob("*.py"))


def test_modules_are_short() -> None:
    lines = {str(p.relative_to(_ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in _MODULES}
    assert {name: n for name, n in lines.items() if n > 400} == {}


def test_functions_are_short() -> None:
    long = []
    for path in _MODULES:
        if path.relative_to(_ROOT).parts[0] in _PACKAGES:
            source = path.read_text(encoding="utf-8")
            long += [f"{path.name}:{f.name}" for f in _functions(source) if _code_lines(f, source) > 40]
    assert long == []


def _functions(source: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [n for n in ast.walk(ast.parse(source)) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]


def _code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef, source: str) -> int:
    """Count the lines of the body without docstring, blank lines and comments."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body:
        return 0
    lines = source.splitlines()[body[0].lineno - 1 : body[-1].end_lineno]
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in lines)
