"""Several servers of one model: each request goes to the one that has the least to do."""

import time
from collections.abc import Sequence
from types import TracebackType

from extract.errors import PassingProviderError

_REST_S = 10.0


class Endpoints:
    """Spreads requests over servers, and lets one that failed rest while another still answers.

    Args:
        urls: of the servers, at least one.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self._under_way = dict.fromkeys(urls, 0)
        self._rests_until = dict.fromkeys(urls, 0.0)
        self._only = urls[0] if len(urls) == 1 else ""

    def lease(self) -> "Lease":
        """Give the URL for one request, and watch how it ends."""
        return Lease(self)

    def take(self) -> str:
        """Return the URL that is to have the next request."""
        url = self._only or min(self._under_way, key=self._rank)
        self._under_way[url] += 1
        return url

    def give_back(self, url: str, error: BaseException | None) -> None:
        """Say how a request to a URL ended."""
        self._under_way[url] -= 1
        if error is None:
            self._rests_until[url] = 0.0
        elif isinstance(error, PassingProviderError):
            self._rests_until[url] = time.monotonic() + (error.retry_after_s or _REST_S)

    def _rank(self, url: str) -> tuple[bool, int]:
        return self._rests_until[url] > time.monotonic(), self._under_way[url]


class Lease:
    """One request's hold on an endpoint."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints

    def __enter__(self) -> str:
        """Return the URL."""
        self._url = self._endpoints.take()
        return self._url

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Note how it ended."""
        self._endpoints.give_back(self._url, error)
