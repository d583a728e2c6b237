"""A stage is made once for one configuration, and a killed one leaves no half."""

from dataclasses import replace
from pathlib import Path

import pytest

from kg.files import atomic_directory, write_graph, write_manifest
from kg.graph import Graph
from kglift.errors import RunError
from kglift.stages import STAGE_FORMAT, Stage, Workplace, only_run, run_stages


class Kitchen:
    """Two stages that count how often they are made."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def stages(self, spice: str = "salt") -> list[Stage]:
        return [
            Stage("dough", self.make, {"spice": spice}, file_format=STAGE_FORMAT),
            Stage("bread", self.make, {}, ("dough",), file_format=STAGE_FORMAT),
        ]

    def make(self, place: Workplace) -> None:
        self.made.append(place.target.name)
        with atomic_directory(place.target, overwrite=True) as partial:
            (partial / "crumb").write_text(place.target.name)
            write_manifest(partial, STAGE_FORMAT, config=place.config())


def test_a_done_stage_is_not_made_again(tmp_path: Path) -> None:
    kitchen = Kitchen()
    run_stages(kitchen.stages(), tmp_path)
    told: list[tuple[str, str]] = []
    run_stages(kitchen.stages(), tmp_path, tell=lambda name, state: told.append((name, state)))
    assert kitchen.made == ["dough", "bread"]
    assert told == [("dough", "done already"), ("bread", "done already")]


def test_a_changed_setting_makes_the_stage_and_all_after_it_again(tmp_path: Path) -> None:
    kitchen = Kitchen()
    run_stages(kitchen.stages(), tmp_path)
    run_stages(kitchen.stages("pepper"), tmp_path)
    assert kitchen.made == ["dough", "bread"] * 2


def test_a_stage_that_does_not_hold_any_more_is_made_again(tmp_path: Path) -> None:
    kitchen, fresh = Kitchen(), [True]
    dough, bread = kitchen.stages()
    stages = [replace(dough, holds=lambda place, config: fresh[0] and "fingerprint" in config), bread]
    run_stages(stages, tmp_path)
    run_stages(stages, tmp_path)
    assert kitchen.made == ["dough", "bread"]
    fresh[0] = False
    run_stages(stages, tmp_path)
    assert kitchen.made == ["dough", "bread", "dough"]


@pytest.mark.parametrize("amount", [1, 2])
def test_a_graph_made_again_touches_what_follows_only_if_its_facts_are_others(tmp_path: Path, amount: int) -> None:
    made: list[str] = []

    def grow(place: Workplace, n: int) -> None:
        made.append(place.target.name)
        items = [{"entity_id": f"item:{i}", "type": "Item", "name": str(i)} for i in range(n)]
        write_graph(Graph.from_rows(entities=items), place.target, config=place.config(), overwrite=True)

    def stages(n: int, note: str) -> list[Stage]:
        return [
            Stage("field", lambda place: grow(place, n), {"note": note}),
            Stage("barn", lambda place: grow(place, 1), {}, ("field",)),
        ]

    run_stages(stages(1, "spring"), tmp_path)
    run_stages(stages(amount, "autumn"), tmp_path)
    assert made == ["field", "barn", "field"] + ["barn"] * (amount == 2)


@pytest.mark.parametrize("harm", ["manifest", "file"])
def test_a_damaged_stage_is_made_again(tmp_path: Path, harm: str) -> None:
    kitchen = Kitchen()
    run_stages(kitchen.stages(), tmp_path)
    if harm == "manifest":
        (tmp_path / "bread" / "manifest.json").unlink()
    else:
        (tmp_path / "bread" / "crumb").write_text("mould")
    run_stages(kitchen.stages(), tmp_path)
    assert kitchen.made == ["dough", "bread", "bread"]


def test_until_stops_after_the_stage(tmp_path: Path) -> None:
    kitchen = Kitchen()
    run_stages(kitchen.stages(), tmp_path, until="dough")
    assert kitchen.made == ["dough"]


def test_an_unknown_stage_is_named_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no stage `cake`; its stages are dough, bread"):
        run_stages(Kitchen().stages(), tmp_path, until="cake")


def test_two_runs_in_one_directory_are_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    again = only_run(tmp_path / "run")
    with only_run(tmp_path / "run"), pytest.raises(RunError, match="another kglift works in"):
        again.__enter__()
    with only_run(tmp_path / "run"):
        pass
