"""Posting to one URL: directly where nothing stands between, else by `aiohttp`, which knows proxies and redirects."""

from collections.abc import Mapping
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from extract.chat_api import Answer
from extract.http1 import Http1

_CONNECT_S = 15.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_JSON = {"Content-Type": "application/json"}


class Post:
    """Posts JSON to one URL.

    The environment is read once, for its proxies: that takes a millisecond. A server that redirects is asked by
    `aiohttp` from then on.

    Args:
        url: where to.
        key: sent as `Bearer`, unless the URL names a user.
    """

    def __init__(self, url: URL, key: str) -> None:
        self._url = url
        headers = _JSON if url.user else {**_JSON, "Authorization": f"Bearer {key}"}
        self._headers: Mapping[str, str] = headers
        self._proxy = None if proxy_bypass(url.host or "") else getproxies().get(url.scheme)
        self._direct = None if self._proxy or url.user else Http1(str(url.with_fragment(None)), headers)
        self._session: aiohttp.ClientSession | None = None

    async def send(self, data: bytes, most: int) -> Answer | None:
        """Return the answer to a body; None if it is larger than `most` bytes.

        Raises:
            OSError: if the server cannot be reached, or the connection breaks off.
            TimeoutError: if no connection is made in 15 s.
            aiohttp.ClientError: the same, by way of a proxy.
        """
        if self._direct is not None:
            answer = await self._direct.post(data, most)
            if answer is None or answer.status not in _REDIRECTS:
                return answer
            self._direct.close()
            self._direct = None
        return await self._by_aiohttp(data, most)

    async def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        if self._direct is not None:
            self._direct.close()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _by_aiohttp(self, data: bytes, most: int) -> Answer | None:
        session = self._session or self._open()
        async with session.post(self._url, data=data, proxy=self._proxy) as response:
            content = await _read(response, most)
        return None if content is None else Answer(response.status, response.headers, content)

    def _open(self) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the engine bounds what is under way
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
            headers=self._headers,
        )
        return self._session


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes | None:
    parts: list[bytes] = []
    async for part in response.content.iter_any():
        most -= len(part)
        if most < 0:
            return None
        parts.append(part)
    return b"".join(parts)
