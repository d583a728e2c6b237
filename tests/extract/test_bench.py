"""The command that times the engine."""

import json
from pathlib import Path

from typer.testing import CliRunner

from extract.__main__ import app


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
