"""An endpoint that costs almost nothing, in a process of its own: every request gets the same answer after a while."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def _answer(text: str) -> bytes:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    body = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}).encode()
    return _HEAD % len(body) + body


async def _serve(text: str, latency_s: float) -> None:
    answer, loop = _answer(text), asyncio.get_running_loop()

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport, self.read = transport, b""

        def data_received(self, data: bytes) -> None:
            self.read += data
            head, end, body = self.read.partition(b"\r\n\r\n")
            if not end:
                return
            n_bytes = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            if len(body) >= n_bytes:
                self.read = body[n_bytes:]
                loop.call_later(latency_s, self.transport.write, answer)

    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201  the parent reads it
    await server.serve_forever()


@contextmanager
def quick_api(text: str, latency_s: float) -> Iterator[str]:
    """Serve `text` as the answer to everything; gives the base URL."""
    command = [sys.executable, str(Path(__file__)), text, str(latency_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        finally:
            server.kill()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], float(sys.argv[2])))
