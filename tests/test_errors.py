"""Every error that is raised on purpose can be caught by its package's base, and by a builtin."""

import importlib
from types import ModuleType

import pytest

PACKAGES = {"kg": "KgError", "extract": "ExtractError", "db": "DbError", "gnn": "GnnError", "kglift": "KgliftError"}


def errors_of(package: str) -> tuple[ModuleType, type[Exception], list[type[Exception]]]:
    module = importlib.import_module(f"{package}.errors")
    base: type[Exception] = getattr(module, PACKAGES[package])
    own = [e for e in vars(module).values() if isinstance(e, type) and issubclass(e, Exception)]
    return module, base, [e for e in own if e.__module__ == module.__name__]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_error_has_the_base_of_its_package(package: str) -> None:
    _, base, own = errors_of(package)
    assert base.__mro__[1:] == (Exception, BaseException, object)
    assert [e.__name__ for e in own if not issubclass(e, base)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_leaf_is_also_a_builtin_error(package: str) -> None:
    _, base, own = errors_of(package)
    builtin = tuple(e for e in vars(importlib.import_module("builtins")).values() if _is_error(e))
    assert len(own) > 1
    assert [e.__name__ for e in own if e is not base and not issubclass(e, builtin)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_tree_at_the_top_of_the_module_names_every_error(package: str) -> None:
    module, _, own = errors_of(package)
    assert [e.__name__ for e in own if e.__name__ not in (module.__doc__ or "")] == []


def _is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception) and value is not Exception
