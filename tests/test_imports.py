"""Importing is quick, does nothing, and needs no more than it must."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

ROOT = Path(__file__).parent.parent
LIGHT = {"numpy", "scipy", "pandas", "pyarrow", "numba", "triton", "torch", "torch-geometric"}
HEAVY = ("torch", "rdflib", "networkx", "pandas", "pydantic", "neo4j", "ladybug", "openai", "matplotlib")

IMPORT_KG = """
import time
start = time.process_time()
import numpy, pyarrow, pyarrow.compute, pyarrow.parquet
libraries = time.process_time()
import kg
end = time.process_time()
import sys
print(end - start, end - libraries, *(name for name in {heavy} if name in sys.modules))
"""

IMPORT_ALL = """
import importlib, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ImportError(f"blocked {{name}}")

sys.meta_path.insert(0, Blocked())
for package in map(importlib.import_module, ("kg", "gnn")):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
from gnn.recommender import Recommender
from kg.source import Source
print(len(Recommender.members()), len(Source.members()))
"""


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needed_by(names: set[str]) -> set[str]:
    """Return distributions and all that they need, extras aside."""
    found: set[str] = set()
    queue = [normal(n) for n in names]
    while queue:
        name = queue.pop()
        if name in found:
            continue
        found.add(name)
        try:
            lines = requires(name) or []
        except PackageNotFoundError:
            continue
        queue += [normal(re.split(r"[\s;<>=!~\[(]", line)[0]) for line in lines if "extra ==" not in line]
    return found


def test_importing_kg_takes_less_than_a_third_of_a_second_and_nothing_heavy() -> None:
    runs = [python(IMPORT_KG.format(heavy=HEAVY)).split() for _ in range(5)]
    assert runs[0][2:] == []
    total, own = (min(float(run[place]) for run in runs) for place in (0, 1))
    assert own < 0.1
    # numpy and pyarrow are nearly all of it: where they alone take as long, the machine is slow, not kg
    assert total < 0.3 or total - own > 0.2


def test_kg_and_gnn_import_where_only_the_light_libraries_are() -> None:
    allowed = needed_by(LIGHT)
    wanted = {normal(re.split(r"[\s;<>=!~\[(]", line)[0]) for line in requires("kglift") or []}
    owners = packages_distributions()
    unwanted = wanted - allowed - {"kglift"}  # its extra `dev` asks for its other extras
    blocked = {module for module, names in owners.items() if {normal(n) for n in names} & unwanted}
    assert {"neo4j", "rdflib", "openai"} <= blocked
    n_models, n_sources = map(int, python(IMPORT_ALL.format(blocked=sorted(blocked))).split())
    assert n_models >= 5
    assert n_sources >= 5
