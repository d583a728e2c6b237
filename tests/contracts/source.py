"""What every source must do; each member runs this class on the toy graph that it wrote itself."""

import contextlib
import dataclasses
import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kg.config import build_config
from kg.errors import FileFormatError, KgError, WriteError
from kg.graph import Graph
from kg.source import ReadReport, Source
from tests.toy import toy_graph

JUNK = st.one_of(
    st.binary(max_size=3),
    st.sampled_from(
        [b"\t", b"\n", b" ", b"-1", b"9" * 25, b"nan", b'"', b",", b"<", b">", b"&#0;", b"{", b"null", b":"]
    ),
)


def _pairs(graph: Graph) -> set[tuple[str, str]]:
    return {(r["user_id"], r["item_id"]) for r in graph.interactions.to_pylist()}


def _facts(graph: Graph) -> set[tuple[str, str, str]]:
    return {(r["head"], r["relation"], r["tail"]) for r in graph.triples.to_pylist()}


def _files(path: Path) -> list[Path]:
    return sorted(path.iterdir()) if path.is_dir() else [path]


class SourceContract:
    @pytest.fixture
    def source(self, member: type[Source]) -> Source:
        return member()

    @pytest.fixture
    def path(self, source: Source, tmp_path: Path) -> Path:
        path = tmp_path / f"toy{source.suffix}"
        source.write(toy_graph(), path)
        return path

    def test_what_was_written_comes_back_with_the_same_ids(self, source: Source, tmp_path: Path) -> None:
        toy, path = toy_graph(), tmp_path / f"toy{source.suffix}"
        left_out = source.write(toy, path)
        back = source.read(path)
        assert len({"interactions", "triples"} - left_out.keys()) >= 1
        assert _pairs(back) == (set() if "interactions" in left_out else _pairs(toy))
        assert _facts(back) == (set() if "triples" in left_out else _facts(toy))

    def test_a_table_that_does_not_come_back_is_counted_as_left_out(self, source: Source, tmp_path: Path) -> None:
        path = tmp_path / f"toy{source.suffix}"
        left_out = source.write(toy_graph(), path)
        back = source.read(path).counts()
        lost = {name: n for name, n in toy_graph().counts().items() if not back[name]}
        assert {name: n for name, n in left_out.items() if name in lost} == lost

    def test_users_and_items_keep_their_type(self, source: Source, path: Path) -> None:
        back = source.read(path)
        for kind in ("User", "Item"):
            assert all(entity.startswith(f"{kind.lower()}:") for entity in back.ids_of(kind))
        if len(back.interactions):
            assert back.ids_of("Item") == toy_graph().ids_of("Item")

    def test_reading_twice_gives_the_same(self, source: Source, path: Path) -> None:
        assert source.read(path).equals(source.read(path))

    def test_read_minus_dropped_is_what_the_graph_holds(self, source: Source, path: Path) -> None:
        graph, report = source.read_with_report(path)
        assert isinstance(report, ReadReport)
        assert report.read
        for kind, kept in report.kept().items():
            if kind in ("interactions", "triples"):
                assert kept == len(graph.tables()[kind])

    def test_gzipped_files_are_read(self, source: Source, path: Path) -> None:
        plain = source.read(path)
        for file in _files(path):
            file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
        zipped = path if path.is_dir() else path.with_name(f"{path.name}.gz")
        assert source.read(zipped).equals(plain)

    def test_a_missing_path_is_named(self, source: Source, tmp_path: Path) -> None:
        with pytest.raises(FileFormatError, match=f"absent{source.suffix}`"):
            source.read(tmp_path / f"absent{source.suffix}")

    def test_bytes_that_are_not_utf8_are_named_with_their_line(self, source: Source, path: Path) -> None:
        file = _files(path)[-1]
        n_lines = file.read_bytes().count(b"\n")
        file.write_bytes(file.read_bytes() + b"\xe9\n")
        with pytest.raises(FileFormatError, match=rf"{file.name}`, line {n_lines + 1}: byte 0xe9 is not UTF-8.*iconv"):
            source.read(path)

    def test_an_empty_file_is_named(self, source: Source, path: Path) -> None:
        file = _files(path)[-1]
        file.write_bytes(b" \n")
        with pytest.raises(FileFormatError, match=f"{file.name}` is empty"):
            source.read(path)

    def test_a_broken_gzip_file_is_named(self, source: Source, path: Path) -> None:
        file = _files(path)[-1]
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes())[:-9])
        file.unlink()
        broken = path if path.is_dir() else path.with_name(f"{path.name}.gz")
        with pytest.raises(FileFormatError, match=f"{file.name}.gz` is no whole gzip file.*fetch it again"):
            source.read(broken)

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(chosen=st.integers(0, 9), place=st.floats(0, 1), length=st.integers(0, 9), junk=JUNK)
    def test_a_damaged_file_is_read_or_refused_by_name(
        self, source: Source, path: Path, chosen: int, place: float, length: int, junk: bytes
    ) -> None:
        file = _files(path)[chosen % len(_files(path))]
        whole = file.read_bytes()
        start = int(place * len(whole))
        file.write_bytes(whole[:start] + junk + whole[start + length :])
        with contextlib.suppress(KgError):
            source.read(path)
        file.write_bytes(whole)

    def test_nothing_is_overwritten(self, source: Source, path: Path) -> None:
        before = [file.read_bytes() for file in _files(path)]
        with pytest.raises(WriteError, match="exists already"):
            source.write(toy_graph(), path)
        assert [file.read_bytes() for file in _files(path)] == before

    def test_equal_graphs_give_equal_files(self, source: Source, path: Path, tmp_path: Path) -> None:
        again = tmp_path / "again" / path.name
        turned = {name: table.take(list(range(len(table)))[::-1]) for name, table in toy_graph().tables().items()}
        source.write(Graph(**turned), again)
        assert [f.read_bytes() for f in _files(again)] == [f.read_bytes() for f in _files(path)]

    def test_config_is_frozen_has_defaults_and_says_what_they_mean(self, member: type[Source]) -> None:
        config = build_config(member.Config, {})
        assert config == member().config
        for field in dataclasses.fields(config):
            assert f"{field.name}:" in (member.Config.__doc__ or "")
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(config, field.name, "other")
