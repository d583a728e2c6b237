"""A TCP proxy before a Neo4j server that cuts the connection where a test wants it."""

import socket
import threading
from collections.abc import Callable
from typing import Self

COMMIT = b"\x00\x02\xb0\x12\x00\x00"


class Proxy:
    """Pass bytes on, until `cuts` says that a connection is to be cut.

    `cuts` gets what the client sent: "before" cuts before the server gets it, "after" when the server has answered.
    """

    def __init__(self, uri: str, cuts: Callable[[bytes], str | None]) -> None:
        host, port = uri.partition("://")[2].split(":")
        self._target = (host, int(port))
        self._cuts = cuts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"bolt://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            state: dict[str, bool] = {}
            for work in (self._to_server, self._to_client):
                threading.Thread(target=work, args=(client, server, state), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket, state: dict[str, bool]) -> None:
        while data := _received(client):
            cut = self._cuts(data)
            if cut == "before":
                break
            state["cut_after"] = cut == "after"
            server.sendall(data)
        _close(client, server)

    def _to_client(self, client: socket.socket, server: socket.socket, state: dict[str, bool]) -> None:
        while data := _received(server):
            if state.get("cut_after"):
                break
            client.sendall(data)
        _close(client, server)


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1 << 16)
    except OSError:
        return b""


def _close(*connections: socket.socket) -> None:
    for connection in connections:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue
