"""A Neo4j Community server of one's own, from its Maven artifacts, on loopback, without Docker."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import neo4j
import neo4j.exceptions
import platformdirs

from db.class_archive import java_version, shared_classes
from db.errors import StoreFormatError, StoreUnreachableError
from db.neo4j_connection import Neo4jConfig
from db.neo4j_home import alone

NEO4J_VERSION: Final = "5.26.26"
BOLT_PORT: Final = 7687
HTTP_PORT: Final = 7474
_POM: Final = Path(__file__).with_name("pom.xml")
_PID_FILE: Final = "server.json"
OPENS: Final = tuple(
    f"--add-opens=java.base/{package}=ALL-UNNAMED"
    for package in ("java.nio", "java.io", "sun.nio.ch", "java.util.concurrent")
)
# what a batch builds lives until it commits: where the young generation holds that, a million facts take half the time
MEMORY: Final = ("-Xms1g", "-Xmx1g", "-Xmn640m", "-XX:+UseParallelGC")
QUICK_START: Final = ("-XX:TieredStopAtLevel=1",)  # for a server that soon stops: half the work of a start
_LOOPBACK: Final = "127.0.0.1"
_START_S: Final = 90.0
_AUTH: Final = "dbms.security.auth_enabled"
_OTHER_WAY: Final = (
    "install Java 17 or 21 and Maven (Debian: apt install openjdk-17-jre-headless maven; macOS: brew install "
    "openjdk@17 maven), or use Docker: docker compose up -d --wait"
)


@dataclass(frozen=True)
class Server:
    """A running server: its process, its home folder and where it answers."""

    pid: int
    home: Path
    bolt_port: int
    http_port: int | None
    auth: bool

    @property
    def bolt_uri(self) -> str:
        """Return the address for drivers."""
        return f"bolt://{_LOOPBACK}:{self.bolt_port}"

    @property
    def browser_url(self) -> str | None:
        """Return the address of Neo4j Browser, None where the web page is off."""
        page = f"http://{_LOOPBACK}:{self.http_port}/browser/?connectURL={self.bolt_uri}"
        page += "" if self.auth else "&preselectAuthMethod=NO_AUTH"  # else it waits for a password that nobody has
        return None if self.http_port is None else page


def default_home() -> Path:
    """Return the folder in the user's cache that holds the jars and the databases of `make neo4j`."""
    return Path(platformdirs.user_cache_dir("kglift")) / f"neo4j-{NEO4J_VERSION}"


def missing_tools(*, jars: Path | None = None) -> str | None:
    """Say what a server lacks on this machine, or None if it can be started.

    Args:
        jars: the folder of the jars; where they lie already, Maven is not needed.
    """
    if shutil.which("java") is None:
        return f"Neo4j needs `java`, which is not on the PATH; {_OTHER_WAY}"
    found = java_version()
    number = re.search(r'version "(\d+)', found)
    if number is None or int(number[1]) < 17:
        return f"Neo4j {NEO4J_VERSION} needs Java 17 or 21, `java` is {found.splitlines()[:1]}; {_OTHER_WAY}"
    if not (jars and jars.is_dir()) and shutil.which("mvn") is None:
        return f"the jars of Neo4j are fetched by `mvn`, which is not on the PATH; {_OTHER_WAY}"
    return None


def fetch_jars(folder: Path) -> Path:
    """Fetch the jars of Neo4j (215 files, 125 MB) by Maven, once.

    Returns:
        The folder; it is complete or absent.

    Raises:
        StoreUnreachableError: if Java or Maven is missing, or Maven fails; the text says what to install.
    """
    if folder.is_dir():
        return folder
    if lacking := missing_tools():
        raise StoreUnreachableError(lacking)
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True, exist_ok=True)
    command = ["mvn", "-B", "-q", "-f", str(_POM), "dependency:copy-dependencies", "-DincludeScope=runtime"]
    command += [f"-DoutputDirectory={partial}", "-Dmdep.prependGroupId=true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        shutil.rmtree(partial, ignore_errors=True)
        lines = [line for line in done.stdout.splitlines() if "ERROR" in line]
        msg = f"Maven could not fetch the jars of Neo4j: {' '.join(lines[:1]) or done.stderr[:300]}; see its settings"
        raise StoreUnreachableError(msg)
    if folder.is_dir():  # another process was faster
        shutil.rmtree(partial)
    else:
        partial.rename(folder)
    return folder


def start(
    home: Path,
    *,
    jars: Path | None = None,
    bolt_port: int = BOLT_PORT,
    http_port: int | None = HTTP_PORT,
    password: str | None = None,
    auth: bool | None = None,
    java_options: tuple[str, ...] = (),
) -> Server:
    """Start a server on loopback and wait until Bolt answers; one that runs already is returned as it is.

    Args:
        home: its folder: configuration, databases and logs.
        jars: folder of the jars; default `home/lib`. They are fetched if absent.
        bolt_port: 0 takes any free port.
        http_port: port of Neo4j Browser, 0 for any, None for no web page.
        password: of the user `neo4j`; without one the server asks for none. It is set at the first start of a home.
        auth: whether it asks for a password; default: where one is given. One that nobody gives is not set or checked.
        java_options: more options of the JVM, e.g. `QUICK_START`.

    Raises:
        StoreUnreachableError: if Java or Maven is missing, a port is taken, the server does not come up, or another
            command is at work on its databases.
    """
    if running := status(home):
        return running
    jars = fetch_jars(jars or home / "lib")
    if lacking := missing_tools(jars=jars):
        raise StoreUnreachableError(lacking)
    command = ["java", *MEMORY, *shared_classes(jars), *java_options]
    command += [*OPENS, "-cp", f"{jars}/*", "org.neo4j.server.CommunityEntryPoint", f"--home-dir={home}"]
    command += [f"--config-dir={home / 'conf'}", "--console-mode"]
    auth = password is not None if auth is None else auth
    with alone(home):
        bolt_port = _free_port(bolt_port)
        http_port = None if http_port is None else _free_port(http_port)
        _configure(home, bolt_port, http_port, auth=auth)
        with (home / "console.log").open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        server = Server(process.pid, home, bolt_port, http_port, auth)
        about = {**asdict(server), "home": str(home)}
        (home / _PID_FILE).write_text(json.dumps(about), encoding="utf-8")
        try:
            _await_bolt(server, process.poll, password if auth else None)
        except BaseException:
            stop(home)
            raise
    return server


def asked_for_password(home: Path) -> bool | None:
    """Say whether the server of a home asked for a password when it last started; None where it never did."""
    conf = home / "conf" / "neo4j.conf"
    return f"{_AUTH}=true" in conf.read_text(encoding="utf-8").splitlines() if conf.exists() else None


def status(home: Path) -> Server | None:
    """Return the server of a home folder if its process runs."""
    try:
        about = json.loads((home / _PID_FILE).read_text(encoding="utf-8"))
        server = Server(**{**about, "home": Path(about["home"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        msg = f"`{home / _PID_FILE}` is damaged ({error}); stop the server by its process id and remove the file"
        raise StoreFormatError(msg) from error
    return server if str(home) in _command_line(server.pid) else None


def stop(home: Path, *, timeout_s: float = 30.0) -> bool:
    """Stop the server of a home folder; its databases stay.

    Returns:
        Whether one ran.
    """
    server = status(home)
    if server is not None:
        os.kill(server.pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        while status(home) is not None and time.monotonic() < deadline:
            _reap(server.pid)
            time.sleep(0.1)
        if status(home) is not None:
            os.kill(server.pid, signal.SIGKILL)
            _reap(server.pid)
    (home / _PID_FILE).unlink(missing_ok=True)
    return server is not None


def refuse_other_server(home: Path, uri: str) -> None:
    """Let the address of the server of a home pass; where it does not run, one at which nobody answers.

    Raises:
        ConfigError: if it is no address.
        StoreUnreachableError: if it is the address of another server.
    """
    address, running = urlsplit(Neo4jConfig(uri=uri).uri), status(home)
    port = running.bolt_port if running else BOLT_PORT
    is_own = address.hostname in (_LOOPBACK, "localhost") and (address.port or BOLT_PORT) == port
    if not is_own or (running is None and _answers(port)):
        where = f"at bolt://{_LOOPBACK}:{port}" if running else "not running"
        msg = (
            f"NEO4J_URI is {uri}, another server than that of `{home}` ({where}), whose files this works on; "
            "unset NEO4J_URI to mean that one; for the other, load without --bulk, and dump by its own neo4j-admin"
        )
        raise StoreUnreachableError(msg)


def _configure(home: Path, bolt_port: int, http_port: int | None, *, auth: bool) -> None:
    settings = {
        "server.default_listen_address": _LOOPBACK,
        "server.bolt.listen_address": f"{_LOOPBACK}:{bolt_port}",
        "server.http.enabled": str(http_port is not None).lower(),
        "server.http.listen_address": f"{_LOOPBACK}:{http_port or HTTP_PORT}",
        "server.https.enabled": "false",
        "server.memory.pagecache.size": "256m",
        "dbms.memory.transaction.total.max": "400m",  # beyond it one transaction is refused, not the heap exhausted
        _AUTH: str(auth).lower(),
        "dbms.usage_report.enabled": "false",
        "internal.dbms.bolt.netty_server_shutdown_quiet_period": "0",  # else a stop waits 5 s, twice
    }
    (home / "conf").mkdir(parents=True, exist_ok=True)
    text = "".join(f"{key}={value}\n" for key, value in settings.items())
    (home / "conf" / "neo4j.conf").write_text(text, encoding="utf-8")


def _await_bolt(server: Server, poll: Callable[[], int | None], password: str | None) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            _log_in(server, password)
            return
        except StoreUnreachableError:
            raise
        except (neo4j.exceptions.ServiceUnavailable, neo4j.exceptions.DatabaseUnavailable, OSError) as error:
            ended = poll() is not None
            if ended or time.monotonic() > deadline:
                tail = (server.home / "console.log").read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
                what = "ended at once" if ended else f"did not answer within {_START_S:g} s"
                msg = f"Neo4j {what}: {' '.join(tail)}; the whole log is `{server.home / 'console.log'}`"
                raise StoreUnreachableError(msg) from error
        time.sleep(0.05)


def _log_in(server: Server, password: str | None) -> None:
    auth = ("neo4j", password) if password else None
    with neo4j.GraphDatabase.driver(server.bolt_uri, auth=auth) as driver:
        try:
            driver.verify_connectivity()
        except neo4j.exceptions.AuthError:
            if password is None:
                return  # it answers
            _set_first_password(server, password)


def _set_first_password(server: Server, password: str | None) -> None:
    """Replace the password `neo4j` of a new home; over Bolt, where no list of processes shows it."""
    try:
        with (
            neo4j.GraphDatabase.driver(server.bolt_uri, auth=("neo4j", "neo4j")) as driver,
            driver.session(database="system") as session,
        ):
            session.run("ALTER CURRENT USER SET PASSWORD FROM 'neo4j' TO $new", new=password).consume()
    except neo4j.exceptions.ClientError as error:
        if "Authentication" in (error.code or "") or isinstance(error, neo4j.exceptions.AuthError):
            msg = f"the databases in `{server.home}` have another password; give that one, or another home folder"
        else:
            msg = f"Neo4j does not take this password: {error.message}; choose another (at least 8 characters)"
        raise StoreUnreachableError(msg) from error


def _free_port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except OSError as error:
            msg = f"port {port} is taken by another program; stop that one or choose another port (0: any)"
            raise StoreUnreachableError(msg) from error
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((_LOOPBACK, port)) == 0


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace").replace("\0", " ")
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return ""
    shown = subprocess.run(["ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False)
    return shown.stdout


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
