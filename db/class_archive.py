"""The archive of the classes that Neo4j's programs load: a JVM maps it, instead of reading and checking 215 jars.

It lies beside the jars, and fits one Java and these jars alone; `db.neo4j_install` makes it.
"""

import hashlib
import subprocess
from pathlib import Path


def shared_classes(jars: Path) -> tuple[str, ...]:
    """Return the options with which a JVM on these jars uses their archive; none where there is no fitting one."""
    archive = archive_of(jars)
    return (f"-XX:SharedArchiveFile={archive}",) if archive.exists() and archive.stat().st_size else ()


def archive_of(jars: Path) -> Path:
    """Return where the archive of these jars and of the `java` on the PATH lies, or would lie."""
    jars = jars.absolute()
    digest = hashlib.sha256(java_version().encode())
    for jar in sorted(jars.iterdir()):
        about = jar.stat()
        digest.update(f"{jar} {about.st_size} {about.st_mtime_ns}\n".encode())
    return jars.with_name(f"classes-{digest.hexdigest()[:16]}.jsa")


def java_version() -> str:
    """Return what the `java` on the PATH says about itself."""
    return subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
