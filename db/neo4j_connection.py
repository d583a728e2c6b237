"""The way to a Neo4j server: its address, its sessions, and clear words for what its driver raises."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import neo4j
from neo4j.exceptions import (
    AuthError,
    ClientError,
    ConfigurationError,
    DriverError,
    Forbidden,
    Neo4jError,
    ServiceUnavailable,
    SessionExpired,
)

from db.errors import DbError, StoreFormatError, StoreUnreachableError
from db.model import STORE_FORMAT, STORE_VERSION
from kg.errors import ConfigError

FETCH_SIZE: Final = 10_000
_SCHEME: Final = re.compile(r"(bolt|neo4j)(\+s|\+ssc)?://[^@]+")
_OLDEST_SERVER: Final = 5
_OLDEST_BOLT: Final = "5.7"  # the first whose Bolt lets a client turn notifications off
_FIRST_RETRY_S: Final = 0.1


@dataclass(frozen=True)
class Neo4jConfig:
    """Which server; the password is no part of it.

    Attributes:
        uri: bolt:// or neo4j://, with +s for TLS, +ssc for TLS with a self-signed certificate.
        user: name of the user.
        database: name of the database; Community Edition has one, `neo4j`.
        batch_size: rows in one transaction, at most; fewer where they are long (`batch_bytes`).
        batch_bytes: about so many bytes in one transaction, at most.
        n_writers: transactions at once while a graph is written.
        connect_timeout_s: how long to wait for the server to answer.
        retry_for_s: how long a write repeats a batch while the server restarts or others hold its nodes.
    """

    uri: str = "bolt://127.0.0.1:7687"
    user: str = "neo4j"
    database: str = "neo4j"
    batch_size: int = 5_000
    batch_bytes: int = 8 << 20
    n_writers: int = 2
    connect_timeout_s: float = 10.0
    retry_for_s: float = 120.0

    def __post_init__(self) -> None:
        """Check the address and the sizes."""
        if "@" in self.uri:
            msg = "the address of Neo4j holds a user or a password; give `user` and the password on their own"
            raise ConfigError(msg)
        if not _SCHEME.fullmatch(self.uri):
            raise _no_address(self.uri)
        try:
            _ = urlsplit(self.uri).port
        except ValueError as error:
            raise _no_address(self.uri) from error
        for name in ("batch_size", "batch_bytes", "n_writers", "connect_timeout_s", "retry_for_s"):
            if getattr(self, name) <= 0:
                msg = f"`{name}` is {getattr(self, name)}; expected a number above 0"
                raise ConfigError(msg)


class Neo4jConnection:
    """One driver, made at the first use; a session for each thread."""

    def __init__(self, config: Neo4jConfig, password: str | None = None) -> None:
        self.config = config
        self._password = password
        self._driver: neo4j.Driver | None = None

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        if self._driver is not None:
            self._driver.close()
            self._driver = None

    @contextmanager
    def session(self, access: str, *, retry_for_s: float | None = None) -> Iterator[neo4j.Session]:
        """Open a session.

        Args:
            access: `neo4j.READ_ACCESS`, in which the server refuses to write, or `neo4j.WRITE_ACCESS`.
            retry_for_s: instead of that of the configuration; 0 where the caller repeats what failed.

        Raises:
            StoreUnreachableError: if the server does not answer, does not let us in, or is too old.
        """
        if self._driver is None:
            self._driver = self._connect()
        with self._driver.session(
            database=self.config.database,
            default_access_mode=access,
            fetch_size=FETCH_SIZE,
            max_transaction_retry_time=self.config.retry_for_s if retry_for_s is None else retry_for_s,
        ) as session:
            try:
                yield session
            except KeyboardInterrupt:
                self.close()  # else the session would wait for the answer before it closes
                raise

    def _connect(self) -> neo4j.Driver:
        config = self.config
        auth = (config.user, self._password) if self._password else None
        try:
            driver = neo4j.GraphDatabase.driver(
                config.uri,
                auth=auth,
                connection_timeout=config.connect_timeout_s,
                max_transaction_retry_time=config.retry_for_s,
                initial_retry_delay=_FIRST_RETRY_S,
                notifications_min_severity="OFF",
                user_agent="kglift",
            )
        except ConfigurationError as error:  # of what follows a `?`
            raise _no_address(config.uri) from error
        try:
            with (
                self.refusals(StoreUnreachableError, "the server refused"),
                driver.session(database=config.database, default_access_mode=neo4j.READ_ACCESS) as session,
            ):
                check_server(session.run("RETURN 1").consume().server.agent)
        except BaseException:
            driver.close()
            raise
        return driver

    @contextmanager
    def refusals(self, otherwise: type[Exception], what: str) -> Iterator[None]:
        """Turn the driver's errors into ours; none of them holds the password.

        Args:
            otherwise: what to raise where the server refuses the work itself.
            what: how that error begins.

        Raises:
            StoreUnreachableError: if the server does not answer, does not let us in, or has no such database.
        """
        config = self.config
        try:
            yield
        except DbError:
            raise  # it is one of ours already, and some of those are OSErrors
        except AuthError as error:
            msg = f"{config.uri} does not let user `{config.user}` in: wrong user or password; see NEO4J_PASSWORD"
            raise StoreUnreachableError(msg) from error
        except ConfigurationError as error:
            msg = (
                f"the server at {config.uri} and the driver do not fit ({one_line(error)}); "
                f"kglift needs Neo4j {_OLDEST_BOLT} or newer"
            )
            raise StoreUnreachableError(msg) from error
        except (ServiceUnavailable, SessionExpired, OSError) as error:
            raise StoreUnreachableError(_why_unreachable(config.uri, one_line(error))) from error
        except ClientError as error:
            if error.code == "Neo.ClientError.Database.DatabaseNotFound":
                msg = f"{config.uri} has no database `{config.database}`; correct NEO4J_DATABASE (default: neo4j)"
                raise StoreUnreachableError(msg) from error
            right = f"; user `{config.user}` has no right to it, ask for it or set another NEO4J_USER"
            msg = f"{what}: {one_line(error)}{right if _is_forbidden(error) else ''}"
            raise otherwise(msg) from error
        except (Neo4jError, DriverError) as error:
            msg = f"{what}: {one_line(error)}"
            raise otherwise(msg) from error


def _no_address(uri: str) -> ConfigError:
    return ConfigError(f"`{uri}` is no address of Neo4j; expected e.g. bolt://127.0.0.1:7687 or neo4j+s://host")


def stored_version(session: neo4j.Session) -> int | None:
    """Return the version of the kglift store in the database, None where there is none."""
    record = session.run("MATCH (s:KgliftStore {format: $format}) RETURN s.version AS v", format=STORE_FORMAT).single()
    return None if record is None else record["v"]


def refuse_other_version(version: int) -> None:
    """Let only the version pass that this kglift writes.

    Raises:
        StoreFormatError: naming both versions and the way out.
    """
    if version != STORE_VERSION:
        msg = (
            f"the database holds store version {version}, this kglift reads {STORE_VERSION}; "
            "empty it and load the graph directory again, or use the kglift that wrote it"
        )
        raise StoreFormatError(msg)


def check_server(agent: str) -> None:
    """Let servers pass that are new enough.

    Args:
        agent: what the server calls itself, e.g. `Neo4j/5.26.26`.

    Raises:
        StoreUnreachableError: if it is a Neo4j of before 5.
    """
    number = re.match(r"Neo4j/(\d+)", agent)
    if number is not None and int(number[1]) < _OLDEST_SERVER:
        msg = f"the server is {agent}; kglift needs Neo4j {_OLDEST_SERVER} or newer"
        raise StoreUnreachableError(msg)


def one_line(error: BaseException) -> str:
    """Return what an error says, in one line."""
    # a driver's own error keeps its words in `str`, and says "unexpected error" in `message`
    text = error.message if isinstance(error, Neo4jError) else str(error)
    return " ".join((text or type(error).__name__).split())


def _why_unreachable(uri: str, text: str) -> str:
    if "SSLCertVerificationError" in text:
        return f"the certificate of {uri} is signed by nobody this machine trusts; trust it, or use +ssc in NEO4J_URI"
    return f"no Neo4j answers at {uri} ({text}); start one: make neo4j, or correct NEO4J_URI"


def _is_forbidden(error: ClientError) -> bool:
    return isinstance(error, Forbidden) or "ReadOnly" in (error.code or "")
