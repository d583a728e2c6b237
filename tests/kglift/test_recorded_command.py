"""`kglift extract recorded`: published answers become a data set and facts that fit together."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kg.files import read_graph
from kglift.cli import main
from tests.shared_data import shared

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command, and return its exit status, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["extract", "recorded", *map(str, arguments), "--quiet"])
        told = capsys.readouterr()
        return int(stopped.value.code or 0), told.out, told.err

    return run


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Four books that one reader reviewed, and what a model found in the reviews."""
    books = [
        {
            "item_id": f"b{n}",
            "item_title": f"Book {n}",
            "item_description": "",
            "aspects": [
                {
                    "user_id": "ann",
                    "item_id": f"b{n}",
                    "rating": 5.0,
                    "timestamp": f"2020-01-0{n}T00:00:00",
                    "extracted_aspects": {"quality_criteria": "humor (positive), a very long sentence that is none"},
                }
            ],
        }
        for n in range(1, 5)
    ]
    (tmp_path / "2.5_grouped.jsonl").write_text("\n".join(map(json.dumps, books)), encoding="utf-8")
    return tmp_path


def test_data_and_facts_are_written_and_counted_and_checked(published: Path, tmp_path: Path, call: Call) -> None:
    out = tmp_path / "out"
    code, told, err = call("persona4rec", published, "-o", out)
    assert (code, "leak check: clean" in err) == (0, True)
    assert "persona4rec, gpt-4o-mini" in told
    assert [line.split() for line in told.splitlines() if "humor" in line] == [["triples", "aspect/humor", "2"]]
    data, facts = read_graph(out / "data"), read_graph(out / "facts")
    assert sorted(data.interactions["split"].to_pylist()) == ["test", "train", "train", "valid"]
    assert [t["relation"] for t in facts.triples.to_pylist()] == ["aspect/humor"] * 2
    with pytest.raises(SystemExit) as stopped:
        main(["fuse", str(out / "data"), str(out / "facts"), "-o", str(tmp_path / "fused")])
    assert not stopped.value.code
    assert len(read_graph(tmp_path / "fused").triples) == 2


def test_as_json_the_check_is_there_too(published: Path, tmp_path: Path, call: Call) -> None:
    code, told, _ = call("persona4rec", published, "-o", tmp_path / "out", "--json")
    found = json.loads(told)
    assert code == 0
    assert (found["total"], found["done"], found["rejects"]["too_long"]["count"]) == (2, 2, 2)
    assert found["check"]["is_clean"]


def test_what_is_there_is_replaced_only_when_allowed(published: Path, tmp_path: Path, call: Call) -> None:
    assert call("persona4rec", published, "-o", tmp_path / "out")[0] == 0
    code, _, err = call("persona4rec", published, "-o", tmp_path / "out")
    assert (code, "data` exists already; choose another --out or allow it with --overwrite" in err) == (1, True)
    assert call("persona4rec", published, "-o", tmp_path / "out", "--overwrite")[0] == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("persona4re", "unknown recording `persona4re`; did you mean `persona4rec`"),
        ("colakg", "there is neither `llm_response_item.json` nor `llm_response_item.json.gz`"),
    ],
)
def test_a_wrong_name_or_folder_leaves_nothing(
    published: Path, tmp_path: Path, call: Call, name: str, said: str
) -> None:
    code, _, err = call(name, published, "-o", tmp_path / "out")
    assert (code, said in err) == (1, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "place", "table", "count"),
    [
        ("persona4rec", "persona4rec-samples/amazon", "triples", 147),
        ("colakg", "colakg-ml1m-lastfm/lastfm", "texts", 4672),
        ("colakg", "colakg-ml1m-lastfm/ml-1m", "texts", 3260),
        ("cikgrec", "cikgrec/dbbook2014", "triples", 6961),
        ("agent4rec", "agent4rec-ml1m", "hyperedges", 7881),
    ],
)
def test_the_published_files_become_graphs_by_the_command(
    tmp_path: Path, call: Call, name: str, place: str, table: str, count: int
) -> None:
    top, _, rest = place.partition("/")
    code, _, err = call(name, shared(top) / rest, "-o", tmp_path / "out")
    assert code == 0, err
    assert read_graph(tmp_path / "out" / "facts").counts()[table] == count
