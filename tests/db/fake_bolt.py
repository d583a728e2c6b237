"""A server that speaks just enough Bolt to say who it is and to refuse: for versions and rights nobody can start."""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator


def _packed(value: object) -> bytes:
    if isinstance(value, str):
        raw = value.encode()
        return bytes([0xD0, len(raw)]) + raw
    if isinstance(value, int):
        assert 0 <= value < 128
        return bytes([value])
    if isinstance(value, list):
        return bytes([0x90 + len(value)]) + b"".join(map(_packed, value))
    assert isinstance(value, dict)
    return bytes([0xA0 + len(value)]) + b"".join(_packed(k) + _packed(v) for k, v in value.items())


def _message(tag: int, value: object) -> bytes:
    body = bytes([0xB1, tag]) + _packed(value)
    return struct.pack(">H", len(body)) + body + b"\0\0"


def _exactly(connection: socket.socket, n: int) -> bytes:
    got = b""
    while len(got) < n:
        part = connection.recv(n - len(got))
        if not part:
            raise ConnectionError
        got += part
    return got


def _next_tag(connection: socket.socket) -> int:
    body = b""
    while size := struct.unpack(">H", _exactly(connection, 2))[0]:
        body += _exactly(connection, size)
    return body[1]


def _serve_silently(connection: socket.socket, begun: list[int], patience_s: int) -> None:
    with connection, contextlib.suppress(ConnectionError):
        _exactly(connection, 20)
        connection.sendall(bytes([0, 0, 4, 5]))
        silent = False
        while (tag := _next_tag(connection)) != 0x02:
            if tag == 0x11:
                begun.append(tag)
                silent = len(begun) == 1
            hello = {"server": "Neo4j/5.26.0", "connection_id": "bolt-1"}
            hints = {"hints": {"connection.recv_timeout_seconds": patience_s}}
            if not silent:
                connection.sendall(_message(0x70, {**hello, **hints} if tag == 0x01 else {"fields": []}))


def _serve(connection: socket.socket, agent: str, bolt: tuple[int, int], refuse_with: str | None) -> None:
    with connection, contextlib.suppress(ConnectionError):
        _exactly(connection, 20)
        connection.sendall(bytes([0, 0, *bolt[::-1]]))
        n_runs = 0
        while True:
            tag = _next_tag(connection)
            if tag == 0x02:
                return
            n_runs += tag == 0x10
            if tag == 0x10 and refuse_with and n_runs > 1:
                connection.sendall(_message(0x7F, {"code": refuse_with, "message": "no right to it"}))
            elif tag == 0x01:
                connection.sendall(_message(0x70, {"server": agent, "connection_id": "bolt-1"}))
            else:
                connection.sendall(_message(0x70, {"fields": []}))


@contextlib.contextmanager
def listening(handle) -> Iterator[int]:
    """Yield a port on which each connection is given to `handle`, each in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=handle, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def fake_server(agent: str, *, bolt: tuple[int, int] = (5, 4), refuse_with: str | None = None) -> Iterator[str]:
    """Yield the address of a server that calls itself `agent` and refuses each query after the first with a code."""
    with listening(lambda connection: _serve(connection, agent, bolt, refuse_with)) as port:
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def silent_server(begun: list[int], patience_s: int) -> Iterator[str]:
    """Yield the address of a server that never answers the first BEGIN.

    Args:
        begun: gets an entry for each BEGIN.
        patience_s: after how long a silence it lets clients give a connection up.
    """
    with listening(lambda connection: _serve_silently(connection, begun, patience_s)) as port:
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def answering(text: bytes) -> Iterator[str]:
    """Yield the address of something that answers every connection with the same bytes."""

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(20)
            connection.sendall(text)

    with listening(answer) as port:
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def tls_in_front_of(port: int, certificate: str) -> Iterator[str]:
    """Yield the address of a TLS end in front of a plain server on this machine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def forward(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as outer:
            inner = socket.create_connection(("127.0.0.1", port))
            threading.Thread(target=_pump, args=(inner, outer), daemon=True).start()
            _pump(outer, inner)

    with listening(forward) as front:
        yield f"127.0.0.1:{front}"


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
