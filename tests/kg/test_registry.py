import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kg.errors import UnknownNameError
from kg.registry import Registered


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "toy_shapes"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from kg.registry import Registered\nclass Shape(Registered, package='toy_shapes'):\n    'A family.'\n"
    )
    (folder / "__main__.py").write_text("raise SystemExit('was run')")
    (folder / "circle.py").write_text(
        "from toy_shapes import Shape\nclass Round(Shape): 'Between.'\nclass Circle(Round, name='circle'): 'O'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "toy_shapes"]:
        del sys.modules[name]


def family(package: Path) -> type[Registered]:
    import importlib

    importlib.invalidate_caches()
    found: type[Registered] = importlib.import_module(package.name).Shape
    return found


def test_a_new_file_is_a_new_member_and_helpers_between_are_none(package: Path) -> None:
    (package / "square.py").write_text("from toy_shapes import Shape\nclass Square(Shape, name='square'):\n    '[]'\n")
    shape = family(package)
    assert list(shape.members()) == ["circle", "square"]
    assert shape.find("circle").name == "circle"


def test_an_unknown_name_suggests_the_nearest(package: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown shape `cirlce`; did you mean `circle`"):
        family(package).find("cirlce")


def test_a_name_is_taken_once(package: Path) -> None:
    (package / "twin.py").write_text("from toy_shapes import Shape\nclass Twin(Shape, name='circle'):\n    'O'\n")
    with pytest.raises(TypeError, match="`circle` is already the name of Circle; Twin needs another"):
        family(package).members()


def test_families_do_not_see_each_others_members(package: Path) -> None:
    class Other(Registered, package="toy_shapes"):
        """Another family."""

    family(package).members()
    assert Other.members() == {}
