"""Pages as headless Chromium shows them."""

import asyncio
import base64
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

CHROMIUM = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="needs `chromium` (Debian: apt install chromium)"
)
_FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
_LIMIT_S = 120.0


def in_chromium(url: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open a page with a fresh profile in a folder; options say what to do, e.g. `--dump-dom`."""
    return subprocess.run([*_command(folder), *options, url], capture_output=True, text=True, check=False)


class Tab:
    """A page to be asked and clicked, by Chromium's own protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._n_asked = 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        self._n_asked += 1
        await self._socket.send_json({"id": self._n_asked, "method": method, "params": parameters})
        while (answer := await self._socket.receive_json()).get("id") != self._n_asked:
            pass
        result: dict[str, Any] = answer["result"]
        return result

    async def value(self, script: str) -> Any:
        """Return what a JavaScript expression gives now; None where it fails, e.g. since a page is not there yet."""
        found = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return found["result"].get("value") if "exceptionDetails" not in found else None

    async def until(self, script: str) -> Any:
        """Wait until a JavaScript expression gives something true, and return that."""
        for _ in range(int(_LIMIT_S / 0.1)):
            if found := await self.value(script):
                return found
            await asyncio.sleep(0.1)
        shown = await self.value("document.body.innerText")
        pytest.fail(f"after {_LIMIT_S:g} s still not true: {script}; the page shows: {shown}")

    async def screenshot(self, file: Path) -> None:
        """Keep a picture of the page."""
        file.write_bytes(base64.b64decode((await self.call("Page.captureScreenshot"))["data"]))


@asynccontextmanager
async def tab(url: str, folder: Path) -> AsyncIterator[Tab]:
    """Open a page with a fresh profile in a folder, and close it afterwards."""
    command = [*_command(folder), "--remote-debugging-port=0", url]
    chromium = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        async with aiohttp.ClientSession() as client, client.ws_connect(await _address(client, folder)) as socket:
            yield Tab(socket)
    finally:
        chromium.terminate()
        chromium.wait()


def _command(folder: Path) -> list[str]:
    more = ["--disable-component-update", "--disable-sync", "--window-size=1200,1000"]
    return ["chromium", *_FLAGS.split(), *more, f"--user-data-dir={folder / 'profile'}"]


async def _address(client: aiohttp.ClientSession, folder: Path) -> str:
    """Return where the page answers: Chromium writes its port into the profile, then lists its pages."""
    port = folder / "profile" / "DevToolsActivePort"
    for _ in range(int(_LIMIT_S / 0.1)):
        if port.exists() and (lines := port.read_text().splitlines()):
            async with client.get(f"http://127.0.0.1:{lines[0]}/json/list") as answer:
                for page in await answer.json(content_type=None):
                    if page["type"] == "page":
                        return str(page["webSocketDebuggerUrl"])
        await asyncio.sleep(0.1)
    pytest.fail(f"Chromium opened no page within {_LIMIT_S:g} s")
