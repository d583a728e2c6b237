"""What an installation brings, and that it takes nobody else's name."""

import tomllib
from importlib.metadata import entry_points, metadata, packages_distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("kg", "gnn", "extract", "db", "kglift")


def test_no_other_distribution_owns_the_import_names() -> None:
    owners = packages_distributions()
    assert {name: set(owners.get(name, ["kglift"])) for name in PACKAGES} == {name: {"kglift"} for name in PACKAGES}


def test_the_distribution_cannot_be_uploaded_by_mistake() -> None:
    assert "Private :: Do Not Upload" in (metadata("kglift").get_all("Classifier") or [])


def test_the_console_script_is_there() -> None:
    script = next(iter(entry_points(group="console_scripts", name="kglift")))
    assert callable(script.load())


def test_every_package_is_typed_and_every_folder_of_modules_is_a_package() -> None:
    assert [name for name in PACKAGES if not (ROOT / name / "py.typed").is_file()] == []
    folders = {p.parent for name in PACKAGES for p in (ROOT / name).rglob("*.py")}
    assert [str(f.relative_to(ROOT)) for f in sorted(folders) if not (f / "__init__.py").is_file()] == []


def package_of(path: Path) -> Path:
    """Return the nearest folder above a file that is a package: setuptools looks from there."""
    return next(folder for folder in path.parents if (folder / "__init__.py").is_file())


def test_every_data_file_beside_the_modules_is_packaged() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    patterns = declared["package-data"]["*"]
    files = {p for name in PACKAGES for p in (ROOT / name).rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    data = {p for p in files if p.suffix != ".py"}
    packaged = {p for d in data for pattern in patterns for p in package_of(d).glob(pattern)}
    assert sorted(str(p.relative_to(ROOT)) for p in data - packaged) == []
    assert any(p.suffix == ".toml" for p in data)


def test_constraints_name_versions_and_no_registry() -> None:
    for path in ROOT.glob("constraints*.txt"):
        text = path.read_text(encoding="utf-8")
        assert "://" not in text
        assert "--index" not in text
