"""The small HTTP client against servers that keep to the protocol, and ones that do not."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from yarl import URL

from extract.chat_api import Answer
from extract.http1 import Http1
from extract.post import Post

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    n_bytes = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    return head + await reader.readexactly(n_bytes)


def ask(serve: Serve, n: int = 1, most: int = 1_000) -> tuple[list[Answer | None], int]:
    """Post `n` times, one after the other; return the answers and how many connections that took."""
    n_connections = 0

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal n_connections
        n_connections += 1
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def run() -> list[Answer | None]:
        server = await asyncio.start_server(counted, "127.0.0.1", 0)
        client = Http1(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/x?y=1", {"Authorization": "Bearer k"})
        try:
            return [await client.post(b"body", most) for _ in range(n)]
        finally:
            client.close()
            server.close()

    return asyncio.run(asyncio.wait_for(run(), 10)), n_connections


def say(*parts: bytes, close: bool = False) -> Serve:
    """Serve the same bytes to every request, in parts."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.001)
            if close:
                return

    return serve


def test_a_request_names_host_target_and_length() -> None:
    seen = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(OK)
        await writer.drain()

    ask(serve)
    head, _, body = seen[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v1/x?y=1 HTTP/1.1"
    assert lines[1].startswith(b"Host: 127.0.0.1:")
    assert {b"Authorization: Bearer k", b"Content-Length: 4"} <= set(lines)
    assert body == b"body"


@pytest.mark.parametrize(
    ("parts", "content"),
    [
        ((OK,), b"{}"),
        (tuple(bytes([byte]) for byte in OK), b"{}"),
        ((b"HTTP/1.1 100 Continue\r\n\r\n", OK), b"{}"),
        ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}", b"\r\n3\r\nabc\r\n0\r\n\r\n"), b"{}abc"),
        ((b"HTTP/1.1 204 No Content\r\n\r\n",), b""),
    ],
)
def test_answers_in_every_form_come_whole_over_one_connection(parts: tuple[bytes, ...], content: bytes) -> None:
    answers, n_connections = ask(say(*parts), n=3)
    assert [one and one.content for one in answers] == [content] * 3
    assert n_connections == 1


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"]
)
def test_a_server_that_closes_is_connected_to_again(head: bytes) -> None:
    answers, n_connections = ask(say(head + b"{}", close=True), n=2)
    assert [one and one.content for one in answers] == [b"{}"] * 2
    assert n_connections == 2


def test_names_of_headers_are_found_in_any_case() -> None:
    (answer,), _ = ask(say(b"HTTP/1.1 429 Slow\r\nRETRY-after: 7\r\nContent-Length: 0\r\n\r\n"))
    assert answer is not None
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")


@pytest.mark.parametrize(
    "flood",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5_000,
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * 5_000 + b"\r\nB: c\r\n",
    ],
)
def test_a_flood_is_cut_off(flood: bytes) -> None:
    assert ask(say(flood))[0] == [None]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", "the connection broke off"),
        (b"", "the connection broke off"),
        (b"220 mail.example ESMTP\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "the answer is not HTTP"),
    ],
)
def test_what_is_no_answer_is_an_error(said: bytes, words: str) -> None:
    with pytest.raises(OSError, match=words):
        ask(say(said, close=True))


def test_bytes_that_nobody_asked_for_are_no_answer() -> None:
    said = iter([OK + OK, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfresh"])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            writer.write(next(said))
            await writer.drain()

    answers, n_connections = ask(serve, n=2)
    assert [one and one.content for one in answers] == [b"{}", b"fresh"]
    assert n_connections == 2


def test_a_request_that_is_given_up_leaves_no_answer_for_the_next() -> None:
    async def run() -> bytes:
        n_seen = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal n_seen
            n_seen += 1
            number = n_seen
            await read_request(reader)
            await asyncio.sleep(0.2 if number == 1 else 0)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = Http1(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", {})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.post(b"late", 100), 0.05)
        answer = await client.post(b"next", 100)
        client.close()
        server.close()
        assert answer is not None
        return answer.content

    assert asyncio.run(run()) == b"2"


def test_a_redirect_is_followed() -> None:
    async def run() -> list[bytes]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = await read_request(reader)
            moved = b"HTTP/1.1 307 Moved\r\nLocation: /new\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            writer.write(
                moved if request.startswith(b"POST /old") else OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
            )
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        post = Post(URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/old"), "key")
        answers = [await post.send(b"{}", 100) for _ in range(2)]
        await post.close()
        server.close()
        return [one.content for one in answers if one is not None]

    assert asyncio.run(run()) == [b"{}"] * 2


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_https_is_taken_only_from_a_server_that_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def run(host: str) -> Answer | None:
        server = await asyncio.start_server(say(OK), "127.0.0.1", 0, ssl=context)
        client = Http1(f"https://{host}:{server.sockets[0].getsockname()[1]}/", {})
        try:
            return await client.post(b"{}", 1_000)
        finally:
            client.close()
            server.close()

    with pytest.raises(OSError, match="certificate verify failed"):
        asyncio.run(run("localhost"))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    answer = asyncio.run(run("localhost"))
    assert answer is not None
    assert answer.content == b"{}"
    with pytest.raises(OSError, match="certificate is not valid for '127.0.0.1'"):
        asyncio.run(run("127.0.0.1"))
