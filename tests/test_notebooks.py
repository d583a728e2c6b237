"""What a user would lose: notebooks that run on a run's files, and whose committed outputs are readable."""

import json
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from kglift.report import build_report
from kglift.runs import load_record
from tests.kglift.records import Effects, synthetic_record, write_run

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
MAX_CELLS, MAX_LINES = 30, 15


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    write_run(synthetic_record(Effects(kg=0.004, kg_llm=0.02, kg_random=0.004)), root)
    return root


def test_there_are_notebooks():
    assert [p.stem for p in NOTEBOOKS] == ["01_look_at_a_graph", "02_did_the_llm_help", "03_time_and_quality"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs_and_ends_with_an_answer_and_a_figure(path, run, monkeypatch):
    monkeypatch.setenv("KGLIFT_RUN", str(run))
    root = str(path.parent.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(path.parent)}}).execute()
    *_, answer, figure = notebook.cells
    assert "text/markdown" in answer.outputs[-1]["data"]
    assert "image/png" in figure.outputs[-1]["data"]
    if path.stem.startswith("02"):
        assert "The LLM's graph helped kgat" in answer.outputs[-1]["data"]["text/markdown"]


def test_the_run_read_back_gives_the_same_report(run):
    report = build_report(load_record(run))
    assert report["verdict"]["outcome"] == "helped"
    assert [e["method"] for e in report["extractions"]] == ["item_facts", "llmhg"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_short_and_starts_with_a_question(path):
    cells = nbformat.read(path, as_version=4).cells
    assert len(cells) <= MAX_CELLS
    assert max(len(c.source.splitlines()) for c in cells if c.cell_type == "code") <= MAX_LINES
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.splitlines()[0].endswith("?")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_committed_outputs_are_whole_and_name_no_place(path):
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert "image/png" in cells[-1].outputs[-1]["data"]
    outputs = [o for c in cells for o in c.outputs]
    assert not [o for o in outputs if o.output_type in ("error", "stream")]
    told = json.dumps([{k: v for k, v in o["data"].items() if k != "image/png"} for o in outputs])
    assert not [place for place in (str(Path.home()), "/home/", "/tmp/", "/Users/", "C:\\\\") if place in told]
