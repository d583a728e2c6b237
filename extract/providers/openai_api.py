"""Any endpoint that speaks the OpenAI chat API: OpenAI, vLLM, Ollama, llama.cpp's server, gateways."""

import json
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from pydantic_core import from_json
from yarl import URL

from extract.chat_api import (
    CONCESSIONS,
    KEY_VARIABLE,
    Answer,
    chat_body,
    completion_of,
    concession,
    is_about_form,
    one_line,
    refusal,
)
from extract.endpoints import Endpoints
from extract.errors import PassingProviderError, TerminalProviderError
from extract.http1 import NotSentError
from extract.post import Post
from extract.provider import Completion, Provider, Request
from kg.errors import ConfigError, did_you_mean

_MAX_BYTES = 4 * 2**20
_BYTES_PER_TOKEN = 64
_PLACE = "\x00the prompt\x00"
_NOT_SENT = (NotSentError, aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class OpenAIAPI(Provider, name="openai_api"):
    """Asks an OpenAI-compatible endpoint, or several that serve the same model and share the load.

    The reply schema is sent as `response_format` and enforced where the server can. Where it refuses that, or the name
    of a parameter, the request is sent without it once more, and so are all later ones; the schema then stands in the
    instruction. Proxies are taken from the environment. A request is one POST of JSON without the official client,
    whose own work for it takes more than a millisecond (DECISIONS).

    Args:
        config: where and what to ask.
        api_key: the key; it appears in no error and no file. Local servers take any.

    Raises:
        ConfigError: if the base URL is none, or the key is empty or cannot be sent.
    """

    @dataclass(frozen=True)
    class Config:
        """Where and what to ask.

        Attributes:
            base_url: of the API, usually ending in `/v1`.
            model: as the server names it.
            max_in_flight: requests under way at once, over all servers.
            more_urls: further servers of the same model; they take the same key.
            concede: what the servers are known to refuse, so that requests do without from the start, as those of a
                batch must: no_schema, no_json_mode, max_completion_tokens (in place of max_tokens), no_seed,
                no_temperature.

        Raises:
            ConfigError: if a value cannot be.
        """

        base_url: str
        model: str
        max_in_flight: int = 16
        more_urls: tuple[str, ...] = ()
        concede: tuple[str, ...] = ()

        def __post_init__(self) -> None:
            """Check the values."""
            for name, url in (("base_url", self.base_url), *(("more_urls", url) for url in self.more_urls)):
                if not _is_url(url):
                    msg = f"`{name}` is `{_shown(url)}`; expected a URL, e.g. `https://api.example.com/v1`"
                    raise ConfigError(msg)
            if not self.model.strip():
                msg = "`model` is empty; give the name under which the server knows it"
                raise ConfigError(msg)
            if self.max_in_flight < 1:
                msg = f"`max_in_flight` is {self.max_in_flight}; expected 1 or more"
                raise ConfigError(msg)
            for name in self.concede:
                if name not in CONCESSIONS:
                    msg = f"`concede` names `{name}`; {did_you_mean(name, CONCESSIONS)}"
                    raise ConfigError(msg)

    config: Config

    def __init__(self, config: Config, api_key: str) -> None:
        super().__init__(config)
        if not api_key.strip():
            msg = (
                f"there is no API key for {_shown(config.base_url)}; set the environment variable "
                f"{KEY_VARIABLE} (any word for a server that needs none)"
            )
            raise ConfigError(msg)
        self._key = api_key.strip()
        if not self._key.isascii() or not self._key.isprintable():
            msg = f"the API key in {KEY_VARIABLE} holds a line break or a letter that no key has; copy it again"
            raise ConfigError(msg)
        self._conceded = frozenset(config.concede)
        urls = (config.base_url, *config.more_urls)
        self._endpoints = Endpoints(urls)
        self._posts = {url: Post(_chat_url(url), self._key) for url in urls}
        self._places = {url: _shown(url) for url in urls}
        self._frame: tuple[Any, ...] = ()
        self._around: list[str] = []

    @property
    def model(self) -> str:
        """Identity of the model: its name and the first server, since two may call different models `default`."""
        url = urlsplit(self.config.base_url)
        return f"{self.config.model}@{url.netloc.rpartition('@')[2]}{url.path.rstrip('/')}"

    @property
    def max_in_flight(self) -> int:
        """How many requests may be under way at once."""
        return self.config.max_in_flight

    async def complete(self, request: Request) -> Completion:
        """Answer one request.

        Raises:
            TerminalProviderError: wrong key, no quota, unknown model, bad request, an answer that is not the API's.
            PassingProviderError: rate limit, server error, time-out, no connection; carries Retry-After.
            UnitError: the prompt is larger than the model's context.
            RefusedUnitError: the server's filter does not let the prompt pass.
        """
        with self._endpoints.lease() as url:
            while True:
                sent_without = self._conceded
                answer = await self._send(url, request)
                if answer.status < 300:
                    return self._completion(answer, self._places[url], request)
                if not self._concede(answer, sent_without):
                    raise refusal(answer, self._places[url], self.config.model, self._key)

    @property
    def conceded(self) -> frozenset[str]:
        """What requests do without, as far as is known."""
        return self._conceded

    def body(self, request: Request) -> dict[str, Any]:
        """Return what is sent for a request."""
        return chat_body(request, self.config.model, self._conceded)

    async def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        for post in self._posts.values():
            await post.close()

    async def _send(self, url: str, request: Request) -> Answer:
        most = request.max_tokens * _BYTES_PER_TOKEN + _MAX_BYTES
        try:
            answer = await self._posts[url].send(self._data(request), most)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            said = one_line(str(error) or type(error).__name__, self._key)
            msg = f"cannot reach {self._places[url]}: {said}; check the address and that the server runs"
            raise PassingProviderError(msg, may_be_paid=not isinstance(error, _NOT_SENT)) from error
        if answer is None:
            msg = f"{self._places[url]} sent more than {most:,} bytes for one reply; look into the server's log"
            raise PassingProviderError(msg, may_be_paid=True)
        return answer

    def _data(self, request: Request) -> bytes:
        """Return the body as bytes; all but the prompt is the same for every unit of a run, and is written once."""
        r = request
        frame = (self._conceded, r.system, r.schema, r.max_tokens, r.temperature, r.seed)
        if frame != self._frame:
            text = json.dumps(self.body(request._replace(prompt=_PLACE)))
            self._frame, self._around = frame, text.split(json.dumps(_PLACE))
        before, after = self._around
        return (before + json.dumps(request.prompt) + after).encode()

    def _completion(self, answer: Answer, place: str, request: Request) -> Completion:
        clean = partial(one_line, key=self._key)
        if "json" not in answer.headers.get("content-type", "json"):
            msg = (
                f"{place} answered with something else than the chat API (`{clean(answer.text)[:60]}`); "
                "check the base URL, it usually ends in `/v1`"
            )
            raise TerminalProviderError(msg)
        try:
            body = _parsed(answer.content)
        except (ValueError, RecursionError) as error:
            msg = f"{place} sent a damaged answer: {clean(str(error))}"
            raise PassingProviderError(msg, may_be_paid=True) from error
        return completion_of(body, place, request)

    def _concede(self, answer: Answer, sent_without: frozenset[str]) -> bool:
        """Give up what the server refuses; say whether there is anything else to try than what was sent."""
        if self._conceded != sent_without:  # another request was refused meanwhile and gave something up
            return is_about_form(answer)
        name = concession(answer, self._conceded)
        if name is not None:
            self._conceded |= {name}
        return name is not None


def _chat_url(base: str) -> URL:
    place = URL(base)
    return (place / "chat" / "completions").with_query(place.query)


def _parsed(content: bytes) -> Any:
    try:
        return from_json(content)
    except ValueError:  # a byte order mark, half an emoji where a reply was cut off: the slower parser takes more
        return json.loads(content)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def _shown(url: str) -> str:
    """Return a URL without user, password, query and fragment: those may hold secrets."""
    place = url.partition("?")[0].partition("#")[0]
    scheme, separator, rest = place.rpartition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"
