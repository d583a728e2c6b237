"""An endpoint that costs almost nothing, in a process of its own: every request gets the same answer after a while.

It never sleeps, for to wake a process on the same machine takes the sender's time, and gives way to whoever wants its
processor; a real endpoint is elsewhere.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from extract.loop import run_in_loop

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_LENGTH = b"content-length:"
_GIVES_WAY = 5


def _answer(text: str) -> bytes:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    body = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}).encode()
    return _HEAD % len(body) + body


async def _serve(text: str, latency_s: float) -> None:
    answer, loop = _answer(text), asyncio.get_running_loop()

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport, self.read = cast(asyncio.Transport, transport), b""

        def data_received(self, data: bytes) -> None:
            data = self.read + data if self.read else data
            end = data.find(b"\r\n\r\n")
            at = data[:end].lower().find(_LENGTH) + len(_LENGTH)
            if end >= 0 and len(data) >= end + 4 + int(data[at : data.find(b"\r", at)]):
                self.read = b""  # a client sends its next request after the answer
                loop.call_later(latency_s, self.transport.write, answer)
            else:
                self.read = data

    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()

    def stay_awake() -> None:
        loop.call_soon(stay_awake)

    stay_awake()
    await server.serve_forever()


@contextmanager
def quick_api(text: str, latency_s: float) -> Iterator[str]:
    """Serve `text` as the answer to everything; gives the base URL."""
    command = [sys.executable, "-m", "extract.bench.endpoint", text, str(latency_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        finally:
            server.kill()


if __name__ == "__main__":
    os.nice(_GIVES_WAY)
    run_in_loop(_serve(sys.argv[1], float(sys.argv[2])))
