"""The folder of a Neo4j of one's own: whoever is killed leaves the old database or the new one, and no rubbish."""

from pathlib import Path

import pytest

from db.errors import StoreUnreachableError
from db.neo4j_home import _PARTS, alone, has_database, remove_database, replacing


def fill(place: Path, text: str) -> None:
    for part in _PARTS:
        (place / part).mkdir(parents=True)
        (place / part / "file").write_text(text)


def held(home: Path) -> set[str]:
    return {(home / part / "file").read_text() for part in _PARTS}


def names(home: Path) -> list[str]:
    return sorted(path.name for path in home.iterdir())


def test_a_new_database_takes_the_place_of_the_old_one_when_it_is_whole(tmp_path: Path) -> None:
    fill(tmp_path, "old")
    with alone(tmp_path), replacing(tmp_path) as new:
        fill(new, "new")
        assert held(tmp_path) == {"old"}
    assert held(tmp_path) == {"new"}
    assert names(tmp_path) == ["data", "lock"]
    with pytest.raises(FileExistsError), alone(tmp_path), replacing(tmp_path) as new:
        [fill(new, "newer") for _ in range(2)]
    assert held(tmp_path) == {"new"}
    assert names(tmp_path) == ["data", "lock"]


def test_what_was_killed_before_it_was_whole_goes(tmp_path: Path) -> None:
    fill(tmp_path, "old")
    fill(tmp_path / "unfinished-abc", "new")
    with alone(tmp_path):
        assert held(tmp_path) == {"old"}
        assert names(tmp_path) == ["data", "lock"]


@pytest.mark.parametrize("killed_after", range(5))
def test_what_was_killed_after_it_was_whole_takes_its_place(tmp_path: Path, killed_after: int) -> None:
    fill(tmp_path, "old")
    fill(tmp_path / "whole", "new")
    steps = [
        step
        for part in _PARTS
        for step in (
            lambda part=part: [(tmp_path / part / "file").unlink(), (tmp_path / part).rmdir()],
            lambda part=part: (tmp_path / "whole" / part).rename(tmp_path / part),
        )
    ]
    for step in steps[:killed_after]:
        step()
    assert has_database(tmp_path)
    with alone(tmp_path):
        assert held(tmp_path) == {"new"}
        assert names(tmp_path) == ["data", "lock"]


def test_one_command_at_a_time(tmp_path: Path) -> None:
    with alone(tmp_path / "home"):
        (tmp_path / "home" / "unfinished-abc").mkdir()
        with pytest.raises(StoreUnreachableError, match="another command is at work"), alone(tmp_path / "home"):
            pass
        assert (tmp_path / "home" / "unfinished-abc").exists()
    with alone(tmp_path / "home"):
        pass


def test_a_removed_database(tmp_path: Path) -> None:
    fill(tmp_path, "old")
    assert has_database(tmp_path)
    remove_database(tmp_path)
    assert not has_database(tmp_path)
