"""The OpenAI chat API as values: what a request carries, what an answer says, what a refusal means."""

import json
import re
from collections.abc import Mapping, Set
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from extract.errors import PassingProviderError, ProviderError, RefusedUnitError, TerminalProviderError, UnitError
from extract.pace import SCHEMA_INSTRUCTION, n_prompt_tokens, n_tokens
from extract.provider import Completion, Request

KEY_VARIABLE = "KGLIFT_LLM_API_KEY"
_MAX_CHARS = 300
_MOST_TOKENS = 10**9
_TOO_LONG = re.compile(
    r"context_length_exceeded|maximum context length|context (size|window|length)|too many tokens", re.I
)
_FILTERED = re.compile(r"content[_ ](filter|policy|management policy)|moderation", re.I)
_NO_QUOTA = re.compile(r"insufficient_quota|billing|exceeded your current quota", re.I)
_TAGS = re.compile(r"<[^>]*>")
CONCESSIONS = {  # what a server may refuse, in the order it is given up, and how its refusal reads
    "no_schema": re.compile(r"json_schema|response_format|structured|guided|grammar|schema", re.I),
    "no_json_mode": re.compile(r"json_object|response_format", re.I),
    "max_completion_tokens": re.compile(r"max_completion_tokens", re.I),
    "no_seed": re.compile(r"\bseed\b", re.I),
    "no_temperature": re.compile(r"temperature", re.I),
}


class Answer(NamedTuple):
    """What a server sent back.

    Attributes:
        status: of HTTP.
        headers: by name, in any case.
        content: the body.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def text(self) -> str:
        """What an error says, in the API's form or any other."""
        plain = self.content[: 100 * _MAX_CHARS].decode("utf-8", "replace")
        try:
            body = json.loads(plain)
        except ValueError:
            return plain
        error = body.get("error", body) if isinstance(body, dict) else body
        if not isinstance(error, dict):
            return str(error)
        said = error.get("message") or error.get("detail") or error
        return f"{said} ({error['code']})" if error.get("code") else str(said)


def chat_body(request: Request, model: str, conceded: Set[str]) -> dict[str, Any]:
    """Return the body of a chat request.

    Args:
        request: what to ask.
        model: as the server names it.
        conceded: what the server does not take; the schema then stands in the instruction.
    """
    system = request.system
    body: dict[str, Any] = {"model": model}
    if "no_schema" not in conceded:
        body["response_format"] = _schema_format(request.schema)
    else:
        system += SCHEMA_INSTRUCTION + json.dumps(request.schema)
        if "no_json_mode" not in conceded:
            body["response_format"] = {"type": "json_object"}
    limit = "max_completion_tokens" if "max_completion_tokens" in conceded else "max_tokens"
    body[limit] = request.max_tokens
    if "no_seed" not in conceded:
        body["seed"] = request.seed
    if "no_temperature" not in conceded:
        body["temperature"] = request.temperature
    body["messages"] = [{"role": "system", "content": system}, {"role": "user", "content": request.prompt}]
    return body


def concession(answer: Answer, conceded: Set[str]) -> str | None:
    """Return what a refused request may be sent without, besides what is given up already."""
    if not is_about_form(answer):
        return None
    said = answer.text
    return next((name for name, pattern in CONCESSIONS.items() if name not in conceded and pattern.search(said)), None)


def is_about_form(answer: Answer) -> bool:
    """Say whether a refusal is about the form of the request, not about its length."""
    return answer.status in (400, 422) and not (_TOO_LONG.search(answer.text) or _FILTERED.search(answer.text))


def completion_of(body: Any, place: str, request: Request) -> Completion:
    """Read a chat completion; what it does not say of its tokens is estimated from the length of the texts.

    Args:
        body: of the answer.
        place: who sent it.
        request: what was asked.

    Raises:
        PassingProviderError: if it lacks a part.
    """
    try:
        choice, usage = body["choices"][0], body.get("usage") or {}
        text = choice["message"].get("content") or ""
        said: tuple[Any, Any] = usage.get("prompt_tokens"), usage.get("completion_tokens")
        n_prompt: int = said[0] if _is_count(said[0]) else n_prompt_tokens(request)
        n_written: int = said[1] if _is_count(said[1]) else min(n_tokens(text), request.max_tokens)
        is_cut_off, is_estimated = choice.get("finish_reason") == "length", said != (n_prompt, n_written)
        return Completion(text, n_prompt, n_written, is_cut_off, is_estimated)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        msg = f"{place} sent an answer without a choice: {json.dumps(body)[:_MAX_CHARS]}; look into the server's log"
        raise PassingProviderError(msg, may_be_paid=True) from error


def refusal(answer: Answer, place: str, model: str, key: str) -> ProviderError | UnitError:
    """Return the error that a refusal means: may asking again help, and if not, what to do."""
    status, text = answer.status, answer.text
    said = f"{place} says {status}: {one_line(text, key)}"
    if _NO_QUOTA.search(text):
        return TerminalProviderError(f"{said}; the account has no quota left, top it up or take another key")
    if status in (408, 409, 425, 429) or status >= 500:
        return PassingProviderError(said, retry_after_s(answer.headers))
    if status in (400, 413, 422) and _TOO_LONG.search(text):
        return UnitError(f"{said}; the prompt is larger than the model's context, shorten the unit")
    if status in (400, 403, 422) and _FILTERED.search(text):
        return RefusedUnitError(f"{said}; the server's filter refuses this text, change it or ask another model")
    if status in (401, 403):
        return TerminalProviderError(f"{said}; check the key in {KEY_VARIABLE}")
    if status == 404:
        return TerminalProviderError(f"{said}; check the base URL and that it serves the model `{model}`")
    return TerminalProviderError(f"{said}; the model `{model}` does not take this request")


def one_line(text: str, key: str) -> str:
    """Return a text as one short line without the key."""
    return " ".join(_TAGS.sub(" ", text).replace(key, "***").split())[:_MAX_CHARS]


def retry_after_s(headers: Mapping[str, str]) -> float | None:
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


def is_strict(schema: Any) -> bool:
    """Say whether a schema is in the subset that strict mode takes: closed objects, every property required."""
    if isinstance(schema, list):
        return all(is_strict(part) for part in schema)
    if not isinstance(schema, dict):
        return True
    if "properties" in schema:
        required = set(schema.get("required", []))
        if schema.get("additionalProperties") is not False or required != set(schema["properties"]):
            return False
    return all(is_strict(part) for part in schema.values())


def _is_count(said: Any) -> bool:
    return type(said) is int and 0 < said < _MOST_TOKENS


def _schema_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "json_schema",
        "json_schema": {"name": "reply", "schema": dict(schema), "strict": is_strict(schema)},
    }
