"""Several servers of one model: each request goes to the one that has the least to do."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

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

    @contextmanager
    def lease(self) -> Iterator[str]:
        """Give the URL for one request, and watch how it ends."""
        url = min(self._under_way, key=self._rank)
        self._under_way[url] += 1
        try:
            yield url
        except PassingProviderError as error:
            self._rests_until[url] = time.monotonic() + (error.retry_after_s or _REST_S)
            raise
        else:
            self._rests_until[url] = 0.0
        finally:
            self._under_way[url] -= 1

    def _rank(self, url: str) -> tuple[bool, int]:
        return self._rests_until[url] > time.monotonic(), self._under_way[url]
