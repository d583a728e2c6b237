"""The benchmark measures in turn, says what differs, keeps what is finished and names the bars that do not hold."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import pytest
import torch

from gnn.__main__ import main
from gnn.bench import lightgcn_step, peak
from gnn.bench.measure import measure_machine, measure_task, run_tasks
from gnn.bench.record import markdown, read_record
from gnn.bench.row import Machine, Row, missed
from gnn.bench.setting import TOY, Setting, pick_device
from gnn.bench.task import Bar, Contender, Part, Task
from gnn.errors import InputError

ROOT = Path(__file__).parents[2]
SETTING = Setting(TOY, "cpu", 1)
MACHINE = Machine(bandwidth=2e9, flop_rate=1e9)
KEYS = {f.name for f in dataclasses.fields(Row)}


class Counting(Task):
    """Two of ours and a peer that note when they run."""

    name = "counting"

    def __init__(self) -> None:
        self.calls: list[str] = []

    def contenders(self, setting: Setting) -> Sequence[Contender]:
        def part(name: str, value: float, times: float = 1.0) -> Part:
            def run() -> torch.Tensor:
                self.calls.append(name)
                return torch.tensor(value)

            return Part(run, times)

        def stop() -> None:
            self.calls.append("stop")

        return [
            Contender("a", (part("a", 1.0),), size_bytes=4_000_000, n_flops=1_000_000, stop=stop),
            Contender("b", (part("b", 1.00001),), size_bytes=1),
            Contender("c", (part("c", 1.5, times=7.0),), is_peer=True, note="slow"),
            Contender("d", (), is_peer=True, absent="not installed"),
        ]


@pytest.fixture(autouse=True)
def _no_other_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers in processes of their own have their own tests."""
    monkeypatch.setattr("gnn.bench.worker.ENVIRONMENT", Path("nowhere"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that says how long the last run took: 1, 2, 3, ... s."""
    ticks = iter(t for n in range(1, 100) for t in (0.0, float(n)))
    monkeypatch.setattr("gnn.bench.measure.time.perf_counter", lambda: next(ticks))


def test_contenders_run_in_turn_after_a_warm_up_and_are_stopped() -> None:
    task = Counting()
    told: list[str] = []
    measure_task(task, SETTING, MACHINE, 3, lambda done, total, note: told.append(f"{done}/{total} {note}"))
    assert [name for name, _ in groupby(task.calls)] == ["a", "b", "c"] * 4 + ["stop"]
    assert task.calls[:4] == ["a", "b", "c", "a"]
    assert task.calls[3:].count("a") == 3 * 11  # a short run is followed by ten that count
    assert told[2] == "2/3 counting, warming up c"
    assert told[-1] == "8/9 counting, c"


@pytest.mark.usefixtures("clock")
def test_a_row_holds_medians_their_ratio_and_the_longer_floor() -> None:
    rows = measure_task(Counting(), SETTING, MACHINE, 3)
    assert [(r.route, r.peer) for r in rows] == [("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")]
    first = rows[0]
    assert (first.min_ms, first.ms, first.max_ms, first.n) == (1000, 4000, 7000, 3)  # 1, 4 and 7 s
    assert (first.peer_min_ms, first.peer_ms, first.peer_max_ms) == (21e3, 42e3, 63e3)  # 7 times 3, 6 and 9 s
    assert first.ratio == 42 / 4
    assert (first.kind, first.peer_kind) == ("measured", "extrapolated")
    assert first.floor_ms == 2.0  # 4 MB at 2 GB/s; the operations would take 1 ms
    assert first.floors == 2000
    assert rows[2].floor_ms == 1e3 / 2e9


def test_a_row_says_what_differs_and_who_is_absent() -> None:
    rows = measure_task(Counting(), SETTING, MACHINE, 1)
    assert rows[0].note == "c: slow; c: gives 1.5, ours 1"
    assert rows[1].note == "d: not installed"
    assert rows[1].peer_ms is None
    assert rows[1].ratio is None


def test_a_task_may_do_with_fewer_repeats_than_were_asked_for() -> None:
    class Once(Counting):
        most_repeats = 1

    (rows,) = run_tasks([Once], SETTING, MACHINE, 5)
    assert {row.n for row in rows} == {1}


def test_floors_are_made_with_what_the_machine_does_in_the_same_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnn.bench.measure._seconds", lambda run, device: 0.5)
    machine = measure_machine(SETTING)
    assert machine.bandwidth == 2 * (1 << 16) / 0.5  # read and written
    assert machine.flop_rate == 2 * 64**3 / 0.5


@pytest.mark.parametrize(
    ("bar", "said"),
    [
        (Bar("a", "ratio", 10, peer="c"), ""),
        (Bar("a", "ratio", 11, peer="c"), "t, a: ratio to c >= 11, got 10"),
        (Bar("a", "ratio", 1, peer="d"), "t, a: ratio to d >= 1, not measured"),
        (Bar("a", "floors", 2), ""),
        (Bar("a", "floors", 1.9), "t, a: floors <= 1.9, got 2"),
        (Bar("a", "ms", 3), "t, a: ms <= 3, got 4"),
        (Bar("a", "extra_bytes", 1), "t, a: extra_bytes <= 1, not measured"),
        (Bar("b", "ms", 3), "t, b: ms <= 3, not measured"),
        (Bar("a", "ms", 9, device="cuda"), "t, a: ms <= 9, not measured"),
    ],
)
def test_a_bar_holds_or_says_how_it_is_missed(bar: Bar, said: str) -> None:
    row = Row("t", "a", "cpu", 2, ms=4.0, floor_ms=2.0, peer="c", peer_ms=40.0, ratio=10.0)
    assert missed("t", bar, [row, dataclasses.replace(row, peer="d", ratio=None)]) == said


def test_every_step_gives_the_loss_of_ours_and_the_same_one_after_two_steps_of_adam() -> None:
    batches = lightgcn_step.first_batches(SETTING)
    assert len(batches) > 3
    steps = lightgcn_step.own_steps(SETTING)
    losses = {name: [float(step(batch)) for batch in batches[:3]] for name, step in steps.items()}
    for peer in (p for p in lightgcn_step.peers(SETTING) if not p.absent):
        losses[peer.name] = [float(peer.parts[0].run()) for _ in range(3)]  # type: ignore[arg-type]
    assert {"fused", "fused-bf16", "compiled", "torch", "pyg-edge-index", "pyg-sparse-csr", "coo-autograd"} <= set(
        losses
    )
    for name, values in losses.items():
        assert values == pytest.approx(losses["torch"], rel=1e-3 if name == "fused-bf16" else 1e-5), name


def test_the_floor_of_a_step_is_the_arithmetic_of_its_docstring() -> None:
    n_edges, n_nodes, d = 2 * len(SETTING.graph.users), 140, 8
    adam = 7 * 4 * n_nodes * d
    assert lightgcn_step.step_bytes(SETTING, "fused") == 6 * (4 * n_edges + 2 * 4 * n_nodes * d) + adam
    assert lightgcn_step.step_bytes(SETTING, "fused-bf16") == 6 * (4 * n_edges + 2 * 2 * n_nodes * d) + adam


@pytest.mark.parametrize("name", ["spmm", "sampling", "lightgcn-step"])
def test_every_contender_of_a_task_agrees_with_the_first(name: str) -> None:
    rows = measure_task(Task.find(name)(), SETTING, MACHINE, 1)
    assert rows
    assert [row.note for row in rows if "differs" in row.note or "gives" in row.note] == []
    assert all(row.ms and row.floor_ms for row in rows)
    assert all(row.ratio == pytest.approx(row.peer_ms / row.ms) for row in rows if row.peer_ms and row.ms)


def test_a_wrong_product_is_told() -> None:
    task = Task.find("spmm")()
    assert task.difference(torch.zeros(2, 2), torch.tensor([[0, 0], [0, 0.5]])) == "differs by up to 0.5"


def test_a_command_writes_rows_with_what_they_ran_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "deep" / "bench.json"
    assert main(["bench", "sampling", "--data", TOY, "--threads", "1", "--repeats", "2", "--json", str(file)]) == 0
    said = capsys.readouterr()
    assert "interaction-uniform" in said.out
    assert "sampling, python-loop" in said.err
    value = json.loads(file.read_text())
    head = {"device", "commit", "dirty", "versions", "date", "threads", "bandwidth", "flop_rate", "rows", "finished"}
    assert head <= set(value)
    assert (value["threads"], value["repeats"], value["data"], value["finished"]) == (1, 2, TOY, True)
    assert value["versions"]["torch"].startswith(torch.__version__.partition("+")[0])
    assert all(set(row) == KEYS for row in value["rows"])
    assert (value["rows"][0]["task"], value["rows"][0]["peer"]) == ("sampling", "python-loop")


def test_a_table_is_made_from_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bench.json"
    main(["bench", "spmm", "--data", TOY, "--threads", "1", "--repeats", "1", "--json", str(file)])
    record = read_record(file)
    row = Row("t", "r", "cpu", 2, 12.345, 1, 6.0, "p", 1234.5, 100.0, 12.0, 13.0, n=3, extra_bytes=17_000_000)
    rows = (
        row,
        dataclasses.replace(row, peer="q", peer_kind="extrapolated", ratio=2.04, note="q: slow; q: odd"),
        dataclasses.replace(row, peer="s", ratio=None, peer_ms=None, note="s: not installed"),
        dataclasses.replace(row, route="alone", peer=None, ratio=None, n=1, floor_ms=None, extra_bytes=None),
        Row("t", "cuda", "H100 (predicted)", None, 3.0, bytes=5_000_000, kind="predicted"),
    )
    text = markdown([dataclasses.replace(record, rows=rows)])
    assert "| t | r | 12.3 (12 to 13, n 3) | 2.1 | 17 | 100x p (1,234), 2.0x q (1,234 (x)) |" in text
    assert "| t | alone | 12.3 |  |  |  |" in text
    assert "- q: odd\n- q: slow\n- s: not installed\n- (x) is extrapolated from a part\n" in text
    assert "Predicted, not measured" in text
    assert "| t | cuda | H100 (predicted) | 5 | 3 |" in text
    capsys.readouterr()
    assert main(["bench", "--table", str(file)]) == 0
    assert capsys.readouterr().out == markdown([record]) + "\n"


def test_the_readme_shows_the_published_runs_as_they_are_printed() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    published = sorted((ROOT / "results" / "bench").glob("*.json"))
    shown = readme.partition("<!-- bench -->\n")[2].partition("\n<!-- /bench -->")[0]
    wanted = markdown(read_record(path) for path in published)
    assert shown == wanted, "paste what `python -m gnn bench --table results/bench/*.json` prints between the markers"


def test_ctrl_c_keeps_the_rows_of_finished_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> Iterator[list[Row]]:
        yield [Row("sampling", "r", "cpu", 2, 1.0)]
        raise KeyboardInterrupt

    monkeypatch.setattr("gnn.bench.command.run_tasks", interrupted)
    file = tmp_path / "bench.json"
    assert main(["bench", "sampling", "spmm", "--data", TOY, "--json", str(file)]) == 130
    said = capsys.readouterr()
    assert f"stopped; finished and kept in `{file}`: sampling" in said.err
    assert "sampling  r" in said.out
    record = read_record(file)
    assert not record.finished
    assert [row.task for row in record.rows] == ["sampling"]


def test_an_error_in_a_later_task_keeps_the_rows_of_the_ones_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: object) -> Iterator[list[Row]]:
        yield [Row("sampling", "r", "cpu", 2, 1.0)]
        msg = "no luck"
        raise InputError(msg)

    monkeypatch.setattr("gnn.bench.command.run_tasks", failing)
    assert main(["bench", "sampling", "spmm", "--data", TOY]) == 1
    said = capsys.readouterr()
    assert "sampling  r" in said.out
    assert said.err.endswith("error: no luck\n")


def test_check_exits_1_and_names_the_bars_that_do_not_hold(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(*_: object) -> Iterator[list[Row]]:
        yield [Row("sampling", "interaction-uniform", "cpu", 2, 9e9)]

    monkeypatch.setattr("gnn.bench.command.run_tasks", measured)
    assert main(["bench", "sampling", "--data", TOY, "--check"]) == 1
    said = capsys.readouterr()
    assert "bars do not hold: sampling, interaction-uniform: ms <= 200, got 9e+09" in said.err
    assert "9,000,000,000" in said.out


def test_a_task_with_a_graph_of_its_own_needs_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnn.bench.command.run_tasks", lambda *_: iter([]))
    monkeypatch.setattr("gnn.bench.command.measure_machine", lambda _: MACHINE)
    assert main(["bench", "kgat-kg-step", "--data", "nowhere"]) == 0
    assert main(["bench", "kgat-kg-step", "spmm", "--data", "nowhere"]) == 1


def test_tasks_are_listed_with_their_bars(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in Task.members())
    assert "cpu, fused: ratio to pyg-edge-index >= 60" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["spm"], "unknown task `spm`; did you mean `spmm`?"),
        (["spmm", "--data", "nowhere"], "`nowhere` is no folder; give the one with LightGCN's lists of Gowalla"),
        (["spmm", "--threads", "0"], "`--threads` is 0; expected at least 1"),
        (["spmm", "--repeats", "-1"], "`--repeats` is -1; expected at least 1"),
        (["--table", "absent.json"], "`absent.json` cannot be read as JSON"),
    ],
)
def test_errors_are_one_line_and_exit_1(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_file_of_another_kind_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "other.json"
    file.write_text('{"format": "gnn-bench", "version": 99}')
    assert main(["bench", "--table", str(file)]) == 1
    assert "is ('gnn-bench', 99); expected ('gnn-bench', 1)" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == "cpu"
    with pytest.raises(InputError, match="`--device` is `cuda`, and torch sees no CUDA device"):
        pick_device("cuda")


def test_a_task_without_contenders_cannot_be_used() -> None:
    with pytest.raises(NotImplementedError):
        Task().contenders(SETTING)


@pytest.mark.skipif(not peak._CLEAR.exists(), reason="only Linux tells the peak of a process")
def test_the_peak_counts_what_was_taken_in_between() -> None:
    before = peak._memory_now("cpu")
    table = torch.ones(1 << 24)  # 64 MiB
    del table
    assert 60 << 20 < peak._peak("cpu") - before < 90 << 20


@pytest.mark.slow
@pytest.mark.skipif(not peak._CLEAR.exists(), reason="only Linux tells the peak of a process")
def test_the_memory_of_an_evaluation_is_measured_in_a_process_of_its_own() -> None:
    extra = peak.extra_peak("evaluation", "torch", SETTING)
    assert extra is not None
    assert 0 <= extra < 1 << 28
