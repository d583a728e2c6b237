"""Experiments: every file names what exists, a run goes on after a kill, and a result says what was measured."""

import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse

from gnn.__main__ import main
from gnn.build import TrainConfig
from gnn.errors import InputError
from gnn.experiments.plan import ModelPlan, Protocol, Published, built_in, read_experiment
from gnn.experiments.report import compare_graphs, compare_published, markdown, read_result, summarise, table
from gnn.experiments.runs import Outcome, Run, execute, list_runs, read_data
from kg.errors import ConfigError, FileFormatError, UnknownNameError

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "results" / "experiments").glob("*.json"))
MINIATURE = """
about = "Does a graph help a miniature?"
seeds = [0, 1]
ks = [5, 20]
keeps_curve = true

[data]
source = "kgat"
path = "miniature"

[split]
method = "given"

[train]
paper_protocol = true
epochs = 6
eval_every = 2
patience = 0
batch_size = 64
checkpoint_every = 1

[[models]]
model = "popularity"

[[models]]
model = "lightgcn"
graphs = ["none", "kg", "random"]
config = { dim = 8 }

[[published]]
model = "popularity"
metrics = { "recall@5" = 1.0 }
absolute = 0.001
source = "nobody"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A data set of two camps: even users like even items, and each item's genre is its camp."""
    folder = tmp_path / "miniature"
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for user in range(24):
        liked = rng.permutation(np.arange(user % 2, 20, 2))[:7]
        for name, items in (("train", liked[:5]), ("test", liked[5:])):
            lines[name].append(" ".join(map(str, [user, *items])))
    for name, rows in lines.items():
        (folder / f"{name}.txt").write_text("\n".join(rows) + "\n")
    (folder / "kg_final.txt").write_text("".join(f"{i} 0 {20 + i % 2 + 2 * (i % 3)}\n" for i in range(20)))
    (tmp_path / "small.toml").write_text(MINIATURE)
    return tmp_path


def arguments(place: Path, *more: str, work: str = "work") -> list[str]:
    base = ["experiment", str(place / "small.toml"), "--data", str(place), "--work", str(place / work)]
    return [*base, "--out", str(place / f"{work}.json"), *more]


def measured(result: dict[str, Any]) -> dict[str, Any]:
    """A result without its times and its place."""
    if isinstance(result, dict):
        return {k: measured(v) for k, v in result.items() if k not in ("seconds", "evaluation_seconds", "where")}
    return [measured(v) for v in result] if isinstance(result, list) else result


@pytest.mark.parametrize("name", built_in())
def test_every_experiment_names_models_sources_and_parameters_that_exist(name: str) -> None:
    experiment = read_experiment(name)
    assert experiment.name == name
    assert list_runs(experiment)
    assert experiment.protocol.about.endswith("?")


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_every_result_is_of_an_experiment_as_it_stands_and_its_table_follows_from_its_runs(path: Path) -> None:
    result = json.loads(path.read_text(encoding="utf-8"))
    experiment = read_experiment(path.stem)
    assert result["config"] == experiment.values
    assert result["summary"] == summarise(result["runs"], experiment.protocol.metrics)
    assert result["published"] == compare_published(result["summary"], result["runs"], experiment.published)
    wanted = {(r.model, r.graph, r.seed) for r in list_runs(experiment)}
    told = [(r["model"], r["graph"], r["seed"]) for part in ("runs", "refused", "unfinished") for r in result[part]]
    assert sorted(told) == sorted(wanted)
    text = table(result)
    for row in result["summary"]:
        assert all(f"{row[metric]['mean']:.4f}" in text for metric in experiment.protocol.metrics)
    assert str(ROOT) not in path.read_text(encoding="utf-8")


def test_the_readme_shows_the_results_as_they_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme.partition("<!-- experiments -->")[2].partition("<!-- /experiments -->")[0]
    assert main(["experiment", "--table", *map(str, RESULTS)]) == 0
    printed = capsys.readouterr().out.strip()
    assert "| lastfm-colakg | lightgcn | none | 1 | " in printed
    assert shown.strip() == printed, "paste what `python -m gnn experiment --table results/experiments/*.json` prints"


def test_a_file_that_is_no_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent.json` cannot be read as a result .FileNotFoundError."):
        read_result(tmp_path / "absent.json")
    (tmp_path / "other.json").write_text('{"summary": []}')
    with pytest.raises(InputError, match="other.json` is JSON but no result"):
        read_result(tmp_path / "other.json")


def test_an_experiment_runs_from_end_to_end(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(place)) == 0
    said = capsys.readouterr()
    assert "6/7 lightgcn-random-1: epoch 6/6" in said.err
    assert "popularity on none, recall@5: ours" in said.out
    assert "NOT within 0.0010 (nobody)" in said.out
    result = json.loads((place / "work.json").read_text())
    assert table(result) + "\n" == said.out
    assert [(r["model"], r["graph"], r["seed"]) for r in result["runs"]] == [
        ("popularity", "none", 0),
        *(("lightgcn", graph, 0) for graph in ("none", "kg", "random")),
        *(("lightgcn", graph, 1) for graph in ("none", "kg", "random")),
    ]
    assert [row["n_seeds"] for row in result["summary"]] == [1, 2, 2, 2]
    assert {(t["a"], t["b"]) for t in result["tests"]} == {("kg", "none"), ("kg", "random"), ("none", "random")}
    assert [point["epoch"] for point in result["runs"][1]["curve"]] == [2, 4, 6]
    assert result["data"]["interactions"] == {"train": 120, "valid": 0, "test": 48}
    assert str(place) not in json.dumps(result)
    shown = markdown([result])
    assert "| small | popularity | none | 1 | " in shown
    assert " (missed: recall@5) |" in shown
    (kg,) = (line for line in shown.splitlines() if "| lightgcn | kg |" in line)
    assert re.search(r"\| none [+-]\d\.\d{4} \(p .*\), random [+-]\d\.\d{4} \(p .*\) \|", kg)


def test_what_is_on_disk_is_not_run_again_unless_a_parameter_changed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = read_experiment(str(place / "small.toml"))
    execute(experiment, place, place / "work")
    monkeypatch.setattr("gnn.experiments.runs.train", lambda *_: pytest.fail("trained again"))
    execute(experiment, place, place / "work")
    other = dataclasses.replace(experiment, models=(ModelPlan("lightgcn", config={"dim": 4}),), published=())
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        execute(other, place, place / "work")


def test_a_report_on_the_way_shows_the_curve_so_far_and_claims_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(done: int, total: int | None, note: str = "") -> None:
        if "lightgcn-kg-0: epoch 5" in note:
            raise KeyboardInterrupt

    monkeypatch.setattr("gnn.__main__._show_count", stop)
    assert main(arguments(place)) == 130
    assert "the same command goes on" in capsys.readouterr().err
    monkeypatch.setattr("gnn.experiments.runs.train", lambda *_: pytest.fail("a report trains nothing"))
    assert main(arguments(place, "--report")) == 0
    said = capsys.readouterr().out
    assert "lightgcn on kg, seed 0, unfinished, epoch 5; best recall@20 " in said
    assert said.endswith("\nruns not begun: 4\n")
    result = json.loads((place / "work.json").read_text())
    assert [run["model"] for run in result["runs"]] == ["popularity", "lightgcn"]
    epochs = {(r["graph"], r["seed"]): [point["epoch"] for point in r["curve"]] for r in result["unfinished"]}
    assert epochs == {("kg", 0): [2, 4], ("random", 0): [], ("none", 1): [], ("kg", 1): [], ("random", 1): []}
    monkeypatch.undo()
    assert main(arguments(place)) == 0
    assert main(arguments(place, work="whole")) == 0
    one, other = (json.loads((place / f"{name}.json").read_text()) for name in ("work", "whole"))
    assert measured(one) == measured(other)


def test_a_run_that_needs_more_memory_than_there_is_is_told_and_tried_again(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = MINIATURE.replace('"popularity"', '"ease"').replace("seeds = [0, 1]", "seeds = [0]")
    (place / "small.toml").write_text(text)
    monkeypatch.setattr("gnn.memory.available_memory", lambda: 1000)
    assert main(arguments(place)) == 0
    assert "ease not run here, training ease on " in capsys.readouterr().out
    assert json.loads((place / "work.json").read_text())["published"] == []
    monkeypatch.undo()
    assert main(arguments(place)) == 0
    assert "not run here" not in capsys.readouterr().out


def test_a_peer_runs_where_its_library_is_and_is_told_where_it_is_not(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Als:
        def __init__(self, **config: Any) -> None:
            assert config.pop("num_threads") >= 1
            assert config == {"factors": 3, "random_state": 0}

        def fit(self, matrix: scipy.sparse.csr_matrix, show_progress: bool) -> None:
            left, _, right = np.linalg.svd(matrix.toarray())
            self.user_factors, self.item_factors = left[:, :3], right[:3].T

    text = MINIATURE.partition("[[models]]")[0] + '[[models]]\nmodel = "popularity"\n'
    (place / "small.toml").write_text(f'{text}[[peers]]\nmodel = "implicit-als"\nconfig = {{ factors = 3 }}\n')
    monkeypatch.setattr("gnn.experiments.peers.find_spec", lambda name: None)
    assert main(arguments(place)) == 0
    assert "implicit-als not run here, the library `implicit` is not installed" in capsys.readouterr().out
    monkeypatch.setattr("gnn.experiments.peers.find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "implicit.als", SimpleNamespace(AlternatingLeastSquares=Als))
    assert main(arguments(place, "--report")) == 0
    assert capsys.readouterr().out.endswith("\nruns not begun: 1\n")
    assert main(arguments(place)) == 0
    popular, factorised = json.loads((place / "work.json").read_text())["runs"]
    assert factorised["model"] == "implicit-als"
    assert factorised["metrics"]["recall@5"] > popular["metrics"]["recall@5"]


def test_the_graphs_of_a_run_differ_in_facts_only(place: Path) -> None:
    data = read_data(read_experiment(str(place / "small.toml")), place)
    none, kg, one, other = (data.variant(*v) for v in (("none", 0), ("kg", 0), ("random", 0), ("random", 1)))
    assert len(none.triples) == 0
    assert len(kg.triples) == len(one.triples) == 20
    assert not np.array_equal(one.triples, other.triples)
    for variant in (none, one, other):
        assert all(np.array_equal(variant.interactions[s], kg.interactions[s]) for s in ("train", "test"))


def outcome(graph: str, seed: int, values: list[float]) -> Outcome:
    run = Run("lightgcn", graph, seed, {}, TrainConfig(seed=seed))
    users = pa.table({"user_id": [f"u{k}" for k in range(len(values))], "recall@20": values})
    return Outcome(run, "finished", {}, pa.table({}), users)


def test_graphs_are_compared_over_users_with_seeds_averaged_and_p_values_adjusted() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(100)
    better = [list(base + 0.1 + rng.normal(0, 0.01, 100)) for _ in range(2)]
    finished = [outcome("kg", k, values) for k, values in enumerate(better)]
    finished += [
        outcome(graph, k, list(base + rng.normal(0, 0.01, 100))) for graph in ("none", "random") for k in (0, 1)
    ]
    rows = compare_graphs(finished, ("recall@20",))
    assert [(r["a"], r["b"]) for r in rows] == [("kg", "none"), ("kg", "random"), ("none", "random")]
    assert rows[0]["difference"] == pytest.approx(0.1, abs=0.01)
    assert max(r["p_holm"] for r in rows[:2]) < 1e-6
    assert rows[2]["p_holm"] > 0.01
    assert all(r["p_holm"] >= r["p_value"] for r in rows)


def test_a_summary_has_mean_and_sample_deviation() -> None:
    runs = [
        {"model": "m", "graph": "kg", "seed": s, "metrics": {"r": v}, "seconds": v} for s, v in ((0, 0.1), (1, 0.3))
    ]
    (row,) = summarise(runs, ["r"])
    assert row["r"] == {"mean": 0.2, "sd": round(0.02**0.5, 6)}
    assert (row["n_seeds"], row["seconds"]) == (2, 0.2)
    assert summarise(runs[:1], ["r"])[0]["r"]["sd"] is None


@pytest.mark.parametrize(
    ("ours", "tolerance", "verdict"),
    [(0.1851, {"absolute": 0.0003}, True), (0.18, {"relative": 0.01}, False), (0.1849, {}, None)],
)
def test_a_published_number_is_met_missed_or_only_shown(ours: float, tolerance: Any, verdict: bool | None) -> None:
    runs = [{"model": "m", "graph": "none", "seed": 0, "metrics": {"recall@20": ours}, "seconds": 1.0}]
    published = Published("m", {"recall@20": 0.1849}, "a paper", **tolerance)
    (row,) = compare_published(summarise(runs, ["recall@20"]), runs, [published])
    assert row["is_within"] is verdict
    assert row["difference"] == round(ours - 0.1849, 6)


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (("seeds = [0, 1]", "seeds = [0, 0]"), ConfigError, r"`seeds` is \[0, 0\]; expected different numbers from 0"),
        (("ks = [5, 20]", "ks = [0]"), ConfigError, r"`ks` is \[0\]; expected cut-offs from 1"),
        (("ks = [5, 20]", "ks = [5]"), ConfigError, "metric `recall@20` is not computed; did you mean `recall@5`"),
        (("ks = [5, 20]", "kss = [5]"), ConfigError, "unknown parameter `kss` in small.toml; did you mean `ks`"),
        (("recall@5", "recal@5"), ConfigError, "metric `recal@5` is not computed; did you mean `recall@5`"),
        (
            ("absolute = 0.001", "absolute = -1"),
            ConfigError,
            "`absolute` is -1.0, .* expected 0 or more",
        ),
        (('"kgat"', '"kgta"'), UnknownNameError, "unknown source `kgta`; did you mean `kgat`"),
        (('model = "lightgcn"', 'model = "lightgnc"'), UnknownNameError, "unknown recommender `lightgnc`"),
        (('model = "lightgcn"', 'model = "popularity"'), ConfigError, "lists `popularity`; expected each model once"),
        (("dim = 8", "dimm = 8"), ConfigError, "unknown parameter `dimm` for model `lightgcn`; did you mean `dim`"),
        (("dim = 8", "seed = 8"), ConfigError, "`small` sets `seed` for `lightgcn`; list `seeds` at the top"),
        (("absolute =", 'graph = "kg"\nabsolute ='), ConfigError, "`popularity` on `kg` is not run; add it"),
        (('"random"]', '"randm"]'), ConfigError, "did you mean `random`"),
        (("[[published]]", '[[peers]]\nmodel = "als"\n[[published]]'), ConfigError, "unknown peer `als`; Known: "),
        (("[[models]]", "[[model]]"), ConfigError, "missing parameter `models` in small.toml"),
        (('path = "miniature"', 'path = "elsewhere"'), FileFormatError, "elsewhere` is no directory"),
    ],
)
def test_a_wrong_experiment_is_refused(place: Path, change: tuple[str, str], kind: type[Exception], said: str) -> None:
    assert change[0] in MINIATURE
    (place / "small.toml").write_text(MINIATURE.replace(*change))
    with pytest.raises(kind, match=said):
        read_data(read_experiment(str(place / "small.toml")), place)


def test_an_unknown_experiment_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "lastfm-colagk"]) == 1
    assert "is neither an experiment nor a TOML file; did you mean `lastfm-colakg`?" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="`jobs` is 0; expected at least 1"):
        execute(read_experiment("lastfm-colakg"), Path(), Path(), jobs=0)
    with pytest.raises(ConfigError, match="`seeds` is \\[\\]; expected different numbers"):
        Protocol("Why?", seeds=())


@pytest.mark.slow
def test_a_killed_experiment_goes_on_to_the_same_end_with_one_job_or_two(place: Path) -> None:
    (place / "small.toml").write_text(MINIATURE.replace("epochs = 6", "epochs = 60"))
    command = [sys.executable, "-m", "gnn"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    rng = random.Random(0)
    for _ in range(2):
        process = subprocess.Popen([*command, *arguments(place)], cwd=ROOT, env=environment)
        while not list((place / "work").glob("*.checkpoint")) and process.poll() is None:
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 1))
        process.send_signal(signal.SIGKILL)
        process.wait()
    for more in (arguments(place), arguments(place, "--jobs", "2", work="whole")):
        subprocess.run([*command, *more], cwd=ROOT, env=environment, check=True, capture_output=True)
    one, other = (json.loads((place / f"{name}.json").read_text()) for name in ("work", "whole"))
    assert len(one["runs"]) == 7
    assert measured(one) == measured(other)
