"""Installing Neo4j: its jars, and an archive of their classes, made by a rehearsal of what is done with them."""

import fcntl
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from db import server
from db.class_archive import archive_of
from db.neo4j_admin import Home, import_graph
from db.neo4j_store import Neo4jConfig, Neo4jStore
from kg.graph import Graph

_LONGEST_LINE: Final = 4_000  # Java 17 refuses a list with a longer one


def install(folder: Path) -> Path:
    """Fetch the jars of Neo4j, and make the archive of their classes; what is there already is left alone.

    The archive takes about a minute and 150 MB; with it a server starts in two thirds of the time. It is made anew
    where Java or the jars changed. Where a Java makes none, an empty file says so, and nobody tries again.

    Returns:
        The folder.

    Raises:
        StoreUnreachableError: if Java or Maven is missing, Maven fails, or the server of the rehearsal does not start.
    """
    jars = server.fetch_jars(folder).absolute()
    if server.missing_tools(jars=jars) is None:  # else the start says what is missing
        archive = archive_of(jars)
        with jars.with_name("classes.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not archive.exists():
                _make(archive, jars)
    return folder


def _make(archive: Path, jars: Path) -> None:
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix="classes-") as name:
        folder = Path(name)
        _rehearse(Home(folder / "home", jars, java_options=(f"-XX:DumpLoadedClassList={folder}/%p.loaded",)))
        listed, made = folder / "classes.txt", folder / "classes.jsa"
        listed.write_text("".join(f"{line}\n" for line in _loaded(folder)), encoding="utf-8")
        command = ["java", "-Xshare:dump", f"-XX:SharedClassListFile={listed}", f"-XX:SharedArchiveFile={made}"]
        subprocess.run([*command, *server.OPENS, "-cp", f"{jars}/*"], capture_output=True, check=False)
        made.touch()
        for old in archive.parent.glob("classes-*.jsa"):
            old.unlink()
        made.replace(archive)


def _rehearse(home: Home) -> None:
    rehearsed = Graph.from_rows(
        entities=[{"entity_id": "a", "type": "Item", "name": "a"}],
        triples=[{"head": "a", "relation": "r", "tail": "a", "confidence": 1.0, "source": "s"}],
        sources=[{"source": "s", "kind": "rule"}],
    )
    import_graph(home, rehearsed)
    running = home.start(http_port=0)
    try:
        with Neo4jStore(Neo4jConfig(uri=running.bolt_uri)) as store:
            store.write(rehearsed)
            store.read()
    finally:
        server.stop(home.folder)


def _loaded(folder: Path) -> list[str]:
    """Return what the programs listed, once; the numbers of newer Javas hold in one list only."""
    lists = (file.read_text(encoding="utf-8").splitlines() for file in folder.glob("*.loaded"))
    lines = dict.fromkeys(line.partition(" id: ")[0] for lines in lists for line in lines)
    return [line for line in lines if len(line) <= _LONGEST_LINE]
