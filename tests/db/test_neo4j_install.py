"""The archive of classes: made once for one Java and these jars, and used by what runs on them."""

from pathlib import Path

import pytest

from db import server
from db.class_archive import archive_of, shared_classes
from db.neo4j_install import _loaded, install
from db.neo4j_store import Neo4jConfig, Neo4jStore
from tests.db.servers import FAST_START


@pytest.fixture
def jars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a jar, beside a `java` that counts its calls and makes what `$MADE` says."""
    for folder in ("lib", "bin"):
        (tmp_path / folder).mkdir()
    (tmp_path / "lib" / "a.jar").write_text("a")
    java = tmp_path / "bin" / "java"
    java.write_text(
        '#!/bin/sh\nif [ "$1" = -version ]; then echo "openjdk version \\"17.0.$PATCH\\"" >&2; exit; fi\n'
        f'echo "$@" >> {tmp_path}/calls\n[ -z "$MADE" ] || echo "$MADE" > "${{3#*=}}"\n'
    )
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")
    monkeypatch.setenv("PATCH", "1")
    monkeypatch.setattr("db.neo4j_install._rehearse", lambda home: None)
    return tmp_path / "lib"


def calls(jars: Path) -> int:
    return len(jars.with_name("calls").read_text().splitlines())


def test_an_archive_is_made_once_and_anew_where_java_or_the_jars_change(
    jars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MADE", "classes")
    assert shared_classes(jars) == ()
    assert [install(jars), install(jars)] == [jars, jars]
    assert calls(jars) == 1
    first = archive_of(jars)
    assert shared_classes(jars) == (f"-XX:SharedArchiveFile={first}",)
    monkeypatch.setenv("PATCH", "2")
    assert shared_classes(jars) == ()
    install(jars)
    (jars / "b.jar").write_text("b")
    assert shared_classes(jars) == ()
    install(jars)
    assert calls(jars) == 3
    assert list(jars.parent.glob("classes-*")) == [archive_of(jars)] != [first]


def test_where_java_makes_no_archive_nobody_tries_again_and_none_is_used(jars: Path) -> None:
    install(jars)
    install(jars)
    assert calls(jars) == 1
    assert shared_classes(jars) == ()


def test_a_class_is_listed_once_and_a_line_that_java_refuses_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "1.loaded").write_text(f"a/A id: 0\na/B id: 1\n@lambda-proxy {'x' * 5_000}\n")
    (tmp_path / "2.loaded").write_text("a/B id: 0\na/C\n")
    assert sorted(_loaded(tmp_path)) == ["a/A", "a/B", "a/C"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_server_maps_the_archive_that_was_made_for_it(tmp_path: Path) -> None:
    real = server.default_home() / "lib"
    if lacking := server.missing_tools(jars=real):
        pytest.skip(lacking)
    jars, home = tmp_path / "lib", tmp_path / "home"
    jars.symlink_to(server.fetch_jars(real))
    install(jars)
    archive = archive_of(jars)
    assert archive.parent == tmp_path
    running = server.start(home, jars=jars, bolt_port=0, http_port=None, java_options=FAST_START)
    try:
        with Neo4jStore(Neo4jConfig(uri=running.bolt_uri)) as store:
            assert store.query("RETURN 1 AS n")["n"].to_pylist() == [1]
        if archive.stat().st_size and Path("/proc/self/maps").exists():
            assert str(archive) in Path(f"/proc/{running.pid}/maps").read_text()
    finally:
        server.stop(home)
    assert {path.name for path in tmp_path.iterdir()} == {"lib", "home", "classes.lock", archive.name}
