"""A local endpoint of the OpenAI chat API that behaves as badly as it is told to."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

Behave = Callable[[dict[str, Any], int], Awaitable[web.StreamResponse] | web.StreamResponse]


def answer(text: str, finish: str = "stop", usage: tuple[Any, Any] | None = (10, 5)) -> web.Response:
    """Return a chat completion."""
    body: dict[str, Any] = {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "mock",
        "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}],
    }
    if usage:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return web.json_response(body)


def refuse(status: int, message: str, code: str | None = None, **headers: str) -> web.Response:
    """Return an error in the API's form."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response({"error": {"message": message, "code": code}}, status=status, headers=named)


class MockApi:
    """A running endpoint: its address, and every request body it got."""

    def __init__(self, behave: Behave) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.base_url = ""
        self.serve = self.handle
        self._behave = behave

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self.bodies.append(body)
        self.keys.append(request.headers.get("Authorization", ""))
        result = self._behave(body, len(self.bodies))
        return result if isinstance(result, web.StreamResponse) else await result


@contextmanager
def mock_api(behave: Behave) -> Iterator[MockApi]:
    """Serve on a free local port, in a thread of its own."""
    api, ready = MockApi(behave), threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        app = web.Application()
        app.router.add_post("/{path:.*}", lambda request: api.serve(request))
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        api.base_url = f"http://127.0.0.1:{port}/v1"
        ready.set()
        await stop.wait()
        await runner.cleanup()
        hanging = asyncio.all_tasks() - {asyncio.current_task()}
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield api
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
