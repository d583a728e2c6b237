"""HTTP/1.1 to one place: POSTs over connections that are kept open, with as little work for each as Python allows."""

import asyncio
import ssl
import time
from collections.abc import Mapping
from typing import cast
from urllib.parse import urlsplit

import httptools

from extract.chat_api import Answer

_CONNECT_S = 15.0
_IDLE_S = 15.0


class NotSentError(OSError):
    """There is no connection, so nothing was sent."""


class Http1:
    """Posts to one URL.

    A connection serves one request at a time and is kept for the next; so there are as many as requests were under way
    at once. One that lay idle is not trusted for long, since what stands between may have forgotten it.

    Limits: no proxy, no redirect, no compression.

    Args:
        url: `http` or `https`, with path and query, percent-encoded.
        headers: sent with each request, besides those that HTTP needs.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        place = urlsplit(url)
        self._is_secure = place.scheme == "https"
        self._host, self._port = place.hostname or "", place.port or (443 if self._is_secure else 80)
        target = (place.path or "/") + (f"?{place.query}" if place.query else "")
        lines = [f"POST {target} HTTP/1.1", f"Host: {place.netloc}", "Accept-Encoding: identity"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._head = "\r\n".join([*lines, "Content-Length: "]).encode("latin-1")
        self._idle: list[_Connection] = []

    async def post(self, data: bytes, most: int) -> Answer | None:
        """Send a body and return the answer; None if that is larger than `most` bytes.

        Raises:
            NotSentError: if no connection is made, or none in 15 s.
            OSError: if it breaks off, or what comes is not HTTP.
        """
        connection = self._kept() or await self._open()
        try:
            answer = await connection.ask(b"%b%d\r\n\r\n%b" % (self._head, len(data), data), most)
        except BaseException:
            connection.abort()
            raise
        if connection.is_reusable:
            self._idle.append(connection)
        else:
            connection.abort()
        return answer

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        while self._idle:
            self._idle.pop().abort()

    def _kept(self) -> "_Connection | None":
        oldest = time.monotonic() - _IDLE_S
        while self._idle:
            connection = self._idle.pop()
            if connection.is_reusable and connection.answered_at > oldest:
                return connection
            connection.abort()
        return None

    async def _open(self) -> "_Connection":
        secure = ssl.create_default_context() if self._is_secure else None
        try:
            async with asyncio.timeout(_CONNECT_S):
                loop = asyncio.get_running_loop()
                _, connection = await loop.create_connection(_Connection, self._host, self._port, ssl=secure)
        except OSError as error:
            raise NotSentError(str(error) or type(error).__name__) from error
        return connection


class _Connection(asyncio.Protocol):
    """One connection; `httptools` calls the `on_` methods as it reads an answer."""

    def __init__(self) -> None:
        self.is_reusable, self.answered_at = False, 0.0
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer | None] | None = None
        self._begin(0)

    def ask(self, data: bytes, most: int) -> "asyncio.Future[Answer | None]":
        """Send a request; the future holds its answer."""
        self._begin(most)
        self._answer = self._loop.create_future()
        if self._transport is None:
            self._fail(ConnectionResetError("the connection broke off"))
        else:
            self._transport.write(data)
        return self._answer

    def abort(self) -> None:
        """Close at once."""
        self.is_reusable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Read a part of the answer; bytes that nobody asked for make the connection useless."""
        if self._answer is None:
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(ConnectionError(f"the answer is not HTTP ({error})"))

    def connection_lost(self, exc: Exception | None) -> None:
        """End an answer that ends with its connection; any other is broken off."""
        self._transport, self.is_reusable = None, False
        if self._is_in_body and exc is None and not {"content-length", "transfer-encoding"} & self._headers.keys():
            self._finish(Answer(self._parser.get_status_code(), self._headers, b"".join(self._parts)))
        else:
            self._fail(exc if isinstance(exc, OSError) else ConnectionResetError("the connection broke off"))

    def on_message_begin(self) -> None:
        """Give the connection up where another answer follows that nobody asked for."""
        if self._answer is None:
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        if self._has_room(len(name) + len(value)):
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Note that what follows is the body."""
        self._is_in_body = True

    def on_body(self, part: bytes) -> None:
        """Keep a part of the body."""
        if self._has_room(len(part)):
            self._parts.append(part)

    def on_message_complete(self) -> None:
        """Hand the answer over; one that only says that another follows is passed over."""
        status = self._parser.get_status_code()
        if self._answer is None:
            return
        if status < 200:
            self._headers.clear()
            self._is_in_body = False
            return
        self.is_reusable, self.answered_at = self._parser.should_keep_alive(), time.monotonic()
        self._finish(Answer(status, self._headers, b"".join(self._parts)))

    def _begin(self, most: int) -> None:
        self._headers: dict[str, str] = {}
        self._parts: list[bytes] = []
        self._is_in_body, self._n_left = False, most

    def _has_room(self, n_bytes: int) -> bool:
        """Say whether so many bytes more are still an answer; the first too many end it."""
        self._n_left -= n_bytes
        if self._n_left < 0:
            self._finish(None)
            self.abort()
        return self._n_left >= 0

    def _finish(self, answer: Answer | None) -> None:
        waiting, self._answer = self._answer, None
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def _fail(self, error: OSError) -> None:
        waiting, self._answer = self._answer, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)
