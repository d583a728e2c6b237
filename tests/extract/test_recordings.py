"""Published answers become graphs: counted, grounded, and free of leaks."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from db.memory_store import MemoryStore
from extract.engine import EngineConfig, Extraction
from extract.recorded import Recording, read_rows, replay
from extract.recordings.agent4rec import Agent4Rec
from extract.recordings.cikgrec import CIKGRec
from extract.recordings.colakg import CoLaKG
from extract.recordings.persona4rec import Persona4Rec
from kg.check import check
from kg.errors import FileFormatError, LeakError, UnknownNameError
from kg.graph import Graph, concat
from kg.split import SplitConfig, split
from tests.shared_data import shared


def stored(graph: Graph, result: Extraction) -> Graph:
    """Check the leak rule, store everything, read it back and return what was read."""
    whole = concat(graph, result.graph)
    assert check(whole).errors == ()
    store = MemoryStore()
    store.write(whole)
    assert store.read().equals(whole)
    return store.read()


def totals(result: Extraction) -> tuple[int, int, int, int]:
    s = result.summary
    assert s.total == s.done + s.empty + s.rejected + s.set_aside
    return s.done, s.empty, s.rejected, s.set_aside


def rejects(result: Extraction) -> dict[str, int]:
    return {code: reason.count for code, reason in result.summary.rejects.items()}


def test_aspects_of_persona4rec_become_the_graphs_of_sagcn(tmp_path: Path) -> None:
    recording = Persona4Rec(shared("persona4rec-samples") / "amazon")
    graph = split(recording.dataset(), SplitConfig(method="leave_last_out"))
    assert Counter(graph.entities["type"].to_pylist()) == {"Item": 50, "User": 419}
    assert len(graph.interactions) == 573
    result = replay(recording, graph, tmp_path / "ledger")
    assert sum(totals(result)) == len(graph.interactions_of("train")) == 513
    relations = Counter(stored(graph, result).triples["relation"].to_pylist())
    assert relations["aspect/character_development"] == 44
    assert len(relations) == 8
    assert set(result.graph.sources["model"].to_pylist()) == {"gpt-4o-mini"}


def test_no_answer_about_a_held_out_review_is_read(tmp_path: Path) -> None:
    recording = Persona4Rec(shared("persona4rec-samples") / "amazon")
    graph = split(recording.dataset(), SplitConfig(method="leave_last_out"))
    result = replay(recording, graph, tmp_path / "ledger")
    held_out = {(row["user_id"], row["item_id"]) for row in graph.interactions.to_pylist() if row["split"] != "train"}
    assert held_out
    assert not held_out & {(t["head"], t["tail"]) for t in result.graph.triples.to_pylist()}


@pytest.mark.slow
def test_texts_of_colakg_describe_every_artist_and_user(tmp_path: Path) -> None:
    folder = shared("colakg-ml1m-lastfm") / "lastfm"
    graph = CoLaKG(folder).dataset()
    result = replay(CoLaKG(folder), graph, tmp_path / "ledger")
    assert totals(result) == (4672, 0, 0, 0)
    assert Counter(stored(graph, result).texts["kind"].to_pylist()) == {"comprehension": 2813, "preference": 1859}
    shown = [len(s["shown"]) for s in result.graph.sources.to_pylist()]
    assert sum(shown) == 57_786


def test_a_text_of_colakg_is_that_of_its_artist(tmp_path: Path) -> None:
    folder = shared("colakg-ml1m-lastfm") / "lastfm"
    recording = CoLaKG(folder)
    graph = recording.dataset()
    assert json.loads(recording.answers(graph)["item:2001"])["text"].startswith("Diary of Dreams is a German darkwave")
    result = replay(recording, graph, tmp_path / "ledger", EngineConfig(max_units=20))
    assert result.graph.counts()["texts"] == 20


@pytest.mark.slow
def test_texts_of_colakg_describe_the_films_of_ml_1m_by_their_original_ids(tmp_path: Path) -> None:
    folder = shared("colakg-ml1m-lastfm") / "ml-1m"
    recording = CoLaKG(folder)
    graph = recording.dataset()
    assert (len(graph.interactions_of("train")), len(graph.interactions_of("test"))) == (801_218, 197_321)
    assert (len(graph.ids_of("Item")), len(graph.ids_of("User"))) == (3260, 6040)
    assert json.loads(recording.answers(graph)["item:1"])["text"].startswith('"Toy Story (1995)" is a pioneering')
    result = replay(recording, graph, tmp_path / "ledger")
    assert sum(totals(result)) == 3883
    assert rejects(result) == {"unknown_entity": 622, "empty": 1}
    whole = stored(graph, result)
    assert Counter(whole.texts["kind"].to_pylist()) == {"comprehension": 3260}
    assert {len(s["shown"]) for s in result.graph.sources.to_pylist()} == {0}


@pytest.mark.parametrize(
    ("items", "users", "units"),
    [
        ({"7": "a", "3": "b"}, None, {"item:7", "item:3"}),
        ({"7": "a"}, {"1": "c", "0": "d"}, {"item:7", "user:ann", "user:bob"}),
        ({"0": "a", "1": "b"}, None, {"item:7", "item:9"}),
    ],
)
def test_numbers_of_colakg_are_original_ids_unless_all_are_numbers_of_the_list(
    tmp_path: Path, items: dict[str, str], users: dict[str, str] | None, units: set[str]
) -> None:
    files = {
        "llm_response_item.json": json.dumps(items),
        "item_map.txt": "7 0\n9 1\n",
        "user_map.txt": "ann 0\nbob 1\n",
    }
    files |= {"train.txt": "0 0\n1 1\n", "test.txt": "0 1\n"}
    files |= {"llm_response_user.json": json.dumps(users)} if users else {}
    for name, text in files.items():
        (tmp_path / name).write_text(text, "utf-8")
    recording = CoLaKG(tmp_path)
    graph = recording.dataset()
    assert set(recording.answers(graph)) == units
    assert set(graph.ids_of("Item")) == {"item:7", "item:9"}


@pytest.mark.slow
def test_interests_of_cikgrec_are_shared_by_users(tmp_path: Path) -> None:
    folder = shared("cikgrec") / "dbbook2014"
    graph = CIKGRec(folder).dataset()
    result = replay(CIKGRec(folder), graph, tmp_path / "ledger")
    assert totals(result) == (3783, 0, 0, 0)
    assert result.graph.counts()["triples"] == 6961
    whole = stored(graph, result)
    assert len(whole.ids_of("Interest")) == 381


@pytest.mark.slow
def test_tastes_of_agent4rec_become_hyperedges_of_train_films(tmp_path: Path) -> None:
    folder = shared("agent4rec-ml1m")
    recording = Agent4Rec(folder)
    graph = recording.dataset()
    result = replay(recording, graph, tmp_path / "ledger")
    assert totals(result) == (968, 0, 32, 0)
    assert rejects(result) == {"no_item": 321, "not_in_catalogue": 209, "not_shown": 105, "duplicate": 16}
    whole = stored(graph, result)
    assert whole.counts()["hyperedges"] == 7881
    roles = Counter(whole.members["role"].to_pylist())
    assert roles == {"user": 7881, "interest": 7881, "item": 47_431}


def test_a_persona_is_read_as_it_stands(tmp_path: Path) -> None:
    folder = shared("agent4rec-ml1m")
    recording = Agent4Rec(folder)
    graph = recording.dataset()
    result = replay(recording, graph, tmp_path / "ledger", EngineConfig(max_units=1))
    texts = {t["text"] for t in result.graph.texts.to_pylist() if t["kind"] == "taste"}
    assert "I'm a fan of animated films." in texts
    assert result.graph.counts()["hyperedges"] == 10
    (source,) = result.graph.sources.to_pylist()
    assert len(source["shown"]) == 21


def cikgrec(folder: Path, interests: str = "0 7\n1 7\n1 8\n", users: str = "org_id remap_id\na 0\nb 1\n") -> CIKGRec:
    (folder / "user_interest_clustered.txt").write_text(interests, "utf-8")
    (folder / "user_list.txt.gz").write_bytes(gzip.compress(users.encode()))
    return CIKGRec(folder)


def people(**splits: str) -> Graph:
    rows: list[dict[str, Any]] = [{"user_id": f"user:{u}", "item_id": "item:1", "split": s} for u, s in splits.items()]
    users = [{"entity_id": f"user:{u}", "type": "User", "name": u} for u in splits]
    item = {"entity_id": "item:1", "type": "Item", "name": "one"}
    return Graph.from_rows(entities=[*users, item], interactions=rows)


def test_small_files_of_the_same_form_are_read(tmp_path: Path) -> None:
    result = replay(cikgrec(tmp_path), people(a="train", b="train"), tmp_path / "ledger")
    edges = [(t["head"], t["tail"]) for t in result.graph.triples.to_pylist()]
    assert edges == [("user:a", "interest:7"), ("user:b", "interest:7"), ("user:b", "interest:8")]


def test_an_answer_that_saw_more_than_train_is_refused(tmp_path: Path) -> None:
    class Careless(CIKGRec):
        def shown(self, graph: Graph) -> dict[str, tuple[tuple[str, str], ...]]:
            return {"user:b": (("user:b", "item:1"),)}

    cikgrec(tmp_path)
    with pytest.raises(LeakError, match="unit `user:b` shows the interaction .*`item:1`.*not in `train`"):
        replay(Careless(tmp_path), people(a="train", b="test"), tmp_path / "ledger")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"interests": "0 x\n0 y\n"}, r"user_interest_clustered\.txt`, line 2, is `0 y`; expected an id and a number"),
        ({"interests": "9 7\n"}, "names the user `9`, which user_list.txt lacks"),
    ],
)
def test_a_line_that_is_no_edge_is_named(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        cikgrec(tmp_path, **files)


def test_files_that_are_missing_or_of_another_form_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"there is neither `user_list\.txt` nor `user_list\.txt\.gz` in"):
        CIKGRec(tmp_path)
    (tmp_path / "llm_response_item.json").write_text("[]", "utf-8")
    with pytest.raises(FileFormatError, match=r"llm_response_item\.json` is no object of texts by number: `\[\]`"):
        CoLaKG(tmp_path)
    (tmp_path / "2.5_grouped.jsonl").write_text('{"item_id": 1}\n', "utf-8")
    with pytest.raises(FileFormatError, match=r"line 1, is no item with its reviews: `{\"item_id\": 1}`"):
        Persona4Rec(tmp_path)
    (tmp_path / "x.csv").write_text("a,b\n1,2\n", "utf-8")
    with pytest.raises(FileFormatError, match=r"x\.csv` has no column `c`; found a, b"):
        read_rows(tmp_path, "x.csv", ("a", "c"))
    (tmp_path / "y.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(FileFormatError, match=r"y\.csv\.gz` cannot be read: Not a gzipped file"):
        read_rows(tmp_path, "y.csv", ("a",))


def test_a_recording_is_found_by_its_name() -> None:
    assert list(Recording.members()) == ["agent4rec", "cikgrec", "colakg", "persona4rec"]
    with pytest.raises(UnknownNameError, match="unknown recording `colagk`; did you mean `colakg`"):
        Recording.find("colagk")
    for name, member in Recording.members().items():
        assert "Source:" in (member.__doc__ or ""), name
        assert "Deviations:" in (member.__doc__ or ""), name
