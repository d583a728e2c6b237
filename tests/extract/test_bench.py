"""The command that times the engine."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from extract.__main__ import app
from tests.extract.test_local import local_model_path


def test_every_way_gets_a_row_on_paper_and_in_the_file(tmp_path: Path) -> None:
    out = tmp_path / "new" / "timings.json"
    done = CliRunner().invoke(app, ["bench", "--units", "256", "--cached", "20", "--out", str(out)])
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text(encoding="utf-8"))
    names = ["ideal", "bare client", "aiohttp", "engine", "engine, answers at once", "engine, answers in the ledger"]
    assert [row["name"] for row in found["rows"]] == names
    assert [row["n_units"] for row in found["rows"]] == [256] * 4 + [20] * 2
    assert all(0 < row["per_s"] <= found["rows"][0]["per_s"] for row in found["rows"][:4])
    assert found["n_cpus"] >= 1
    assert all(name in done.output for name in names)


@pytest.mark.slow
def test_the_local_model_is_timed_beside_llama_cpp_itself(tmp_path: Path) -> None:
    model = local_model_path()
    out = tmp_path / "timings.json"
    words = ["bench", "--units", "0", "--cached", "0", "--local", str(model), "--local-units", "3", "--out", str(out)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    read, written, ours = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert (read["name"], read["n_units"], written["n_units"]) == ("llama.cpp, pp512", 512, 128)
    assert read["per_s"] > written["per_s"] > 0, "to read is faster than to write"
    assert (ours["name"], ours["n_units"]) == ("engine, local model", 3)
    assert ours["share"] > 0
    assert "tokens read" in ours["note"]
