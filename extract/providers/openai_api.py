"""Any endpoint that speaks the OpenAI chat API: OpenAI, vLLM, Ollama, llama.cpp's server, gateways."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import openai
from openai.types.chat import ChatCompletion

from extract.errors import PassingProviderError, ProviderError, TerminalProviderError, UnitError
from extract.provider import Completion, Provider, Request
from kg.errors import ConfigError

_TOO_LONG = re.compile(
    r"context_length_exceeded|maximum context length|context (size|window|length)|too many tokens", re.I
)
_NO_QUOTA = re.compile(r"insufficient_quota|billing|exceeded your current quota", re.I)
_KEY_VARIABLE = "KGLIFT_LLM_API_KEY"
_MAX_CHARS = 300
_CONNECT_S = 15.0


_TAGS = re.compile(r"<[^>]*>")
_CONCESSIONS = {  # what a server may refuse, in the order it is given up, and how its refusal reads
    "no_schema": re.compile(r"json_schema|response_format|structured|guided|grammar|schema", re.I),
    "no_json_mode": re.compile(r"json_object|response_format", re.I),
    "max_completion_tokens": re.compile(r"max_completion_tokens", re.I),
    "no_seed": re.compile(r"\bseed\b", re.I),
    "no_temperature": re.compile(r"temperature", re.I),
}


class OpenAIAPI(Provider, name="openai_api"):
    """Asks an OpenAI-compatible endpoint through the official client, which makes no retries of its own here.

    The reply schema is sent as `response_format` and enforced where the server can. Where it refuses that, or the name
    of a parameter, the request is sent without it once more, and so are all later ones; the schema then stands in the
    instruction.

    Args:
        config: where and what to ask.
        api_key: the key; it appears in no error and no file. Local servers take any.

    Raises:
        ConfigError: if the base URL is none, or the key is empty.
    """

    @dataclass(frozen=True)
    class Config:
        """Where and what to ask.

        Attributes:
            base_url: of the API, usually ending in `/v1`.
            model: as the server names it.
            max_in_flight: requests under way at once.

        Raises:
            ConfigError: if a value cannot be.
        """

        base_url: str
        model: str
        max_in_flight: int = 16

        def __post_init__(self) -> None:
            """Check the values."""
            if not _is_url(self.base_url):
                msg = f"`base_url` is `{_shown(self.base_url)}`; expected a URL, e.g. `https://api.example.com/v1`"
                raise ConfigError(msg)
            if not self.model.strip():
                msg = "`model` is empty; give the name under which the server knows it"
                raise ConfigError(msg)
            if self.max_in_flight < 1:
                msg = f"`max_in_flight` is {self.max_in_flight}; expected 1 or more"
                raise ConfigError(msg)

    config: Config

    def __init__(self, config: Config, api_key: str) -> None:
        super().__init__(config)
        if not api_key.strip():
            msg = (
                f"there is no API key for {_shown(config.base_url)}; set the environment variable "
                f"{_KEY_VARIABLE} (any word for a server that needs none)"
            )
            raise ConfigError(msg)
        self._key = api_key.strip()
        self._conceded: set[str] = set()
        self._client: openai.AsyncOpenAI | None = None

    @property
    def model(self) -> str:
        """Identity of the model: its name and the server, since two servers may call different models `default`."""
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
        """
        while True:
            sent_without = frozenset(self._conceded)
            try:
                return _completion(await self._send(request), self._place)
            except openai.APIStatusError as error:
                if not self._concede(error, sent_without):
                    raise self._refused(error) from error
            except openai.APIConnectionError as error:
                cause = error.__cause__ or error
                said = self._clean(str(cause) or type(cause).__name__)
                msg = f"cannot reach {self._place}: {said}; check the address and that the server runs"
                raise PassingProviderError(msg) from error
            except (openai.APIError, ValueError) as error:
                msg = f"{self._place} sent a damaged answer: {self._clean(str(error))}"
                raise PassingProviderError(msg) from error

    async def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    @property
    def _place(self) -> str:
        return _shown(self.config.base_url)

    async def _send(self, request: Request) -> ChatCompletion:
        if self._client is None:
            self._client = openai.AsyncOpenAI(
                base_url=self.config.base_url,
                api_key=self._key,
                max_retries=0,
                timeout=openai.Timeout(None, connect=_CONNECT_S),
            )
        answer: Any = await self._client.chat.completions.create(**self._body(request))
        if not isinstance(answer, ChatCompletion):
            start = self._clean(str(answer).strip())[:60]
            msg = (
                f"{self._place} answered with something else than the chat API (`{start}`); "
                "check the base URL, it usually ends in `/v1`"
            )
            raise TerminalProviderError(msg)
        return answer

    def _body(self, request: Request) -> dict[str, Any]:
        system, conceded = request.system, self._conceded
        body: dict[str, Any] = {}
        if "no_schema" not in conceded:
            body["response_format"] = _schema_format(request.schema)
        else:
            system += f"\nAnswer with one JSON object that fits this JSON schema:\n{json.dumps(request.schema)}"
            if "no_json_mode" not in conceded:
                body["response_format"] = {"type": "json_object"}
        limit = "max_completion_tokens" if "max_completion_tokens" in conceded else "max_tokens"
        body[limit] = request.max_tokens
        if "no_seed" not in conceded:
            body["seed"] = request.seed
        if "no_temperature" not in conceded:
            body["temperature"] = request.temperature
        messages = [{"role": "system", "content": system}, {"role": "user", "content": request.prompt}]
        # All in `extra_body`: the client walks through typed fields one by one, a fifth of its time a request.
        return {"model": self.config.model, "messages": [], "extra_body": {**body, "messages": messages}}

    def _concede(self, error: openai.APIStatusError, sent_without: frozenset[str]) -> bool:
        """Give up what the server refuses; say whether there is anything else to try than what was sent."""
        refusal = _text_of(error)
        if error.status_code not in (400, 422) or _TOO_LONG.search(refusal):
            return False
        if self._conceded != sent_without:  # another request was refused meanwhile and gave something up
            return True
        for name, pattern in _CONCESSIONS.items():
            if name not in self._conceded and pattern.search(refusal):
                self._conceded.add(name)
                return True
        return False

    def _refused(self, error: openai.APIStatusError) -> ProviderError | UnitError:
        status, text = error.status_code, _text_of(error)
        said = f"{self._place} says {status}: {self._clean(text)}"
        if _NO_QUOTA.search(text):
            return TerminalProviderError(f"{said}; the account has no quota left, top it up or take another key")
        if status in (408, 409, 425, 429) or status >= 500:
            return PassingProviderError(said, _retry_after(error.response.headers))
        if status in (400, 413, 422) and _TOO_LONG.search(text):
            return UnitError(f"{said}; the prompt is larger than the model's context, shorten the unit")
        return TerminalProviderError(f"{said}; {self._advice(status)}")

    def _advice(self, status: int) -> str:
        if status in (401, 403):
            return f"check the key in {_KEY_VARIABLE}"
        if status == 404:
            return f"check the base URL and that it serves the model `{self.config.model}`"
        return f"the model `{self.config.model}` does not take this request"

    def _clean(self, text: str) -> str:
        """Return a text as one short line without the key."""
        return " ".join(_TAGS.sub(" ", text).replace(self._key, "***").split())[:_MAX_CHARS]


def _completion(answer: ChatCompletion, place: str) -> Completion:
    choice = answer.choices[0] if answer.choices else None
    if choice is None:
        msg = f"{place} sent an answer without a choice: {answer.model_extra or 'nothing'}"[:_MAX_CHARS]
        raise PassingProviderError(msg)
    usage = answer.usage
    return Completion(
        choice.message.content or "",
        usage.prompt_tokens if usage else 0,
        usage.completion_tokens if usage else 0,
        choice.finish_reason == "length",
    )


def _schema_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "json_schema",
        "json_schema": {"name": "reply", "schema": dict(schema), "strict": _is_strict(schema)},
    }


def _is_strict(schema: Any) -> bool:
    """Say whether a schema is in the subset that strict mode takes: closed objects, every property required."""
    if isinstance(schema, list):
        return all(_is_strict(part) for part in schema)
    if not isinstance(schema, dict):
        return True
    if "properties" in schema:
        required = set(schema.get("required", []))
        if schema.get("additionalProperties") is not False or required != set(schema["properties"]):
            return False
    return all(_is_strict(part) for part in schema.values())


def _text_of(error: openai.APIStatusError) -> str:
    body = error.body
    if isinstance(body, dict):
        said = body.get("message") or body.get("detail") or body.get("error") or body
        return f"{said} ({body['code']})" if body.get("code") else str(said)
    return str(body or error.message)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read how long a server asks to wait: milliseconds, seconds or a date."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit)
        except (KeyError, ValueError):
            continue
    try:
        wanted = parsedate_to_datetime(headers["retry-after"])
        return max(0.0, (wanted - datetime.now(UTC)).total_seconds())
    except (KeyError, TypeError, ValueError):
        return None


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
