"""What a user of an endpoint sees when it misbehaves."""

import asyncio
import traceback
from pathlib import Path
from typing import Any

import openai
import pytest
from aiohttp import web

from extract.chat_api import is_strict, retry_after_s
from extract.engine import EngineConfig, Extraction, extract
from extract.errors import (
    BudgetError,
    ExtractError,
    PassingProviderError,
    RefusedUnitError,
    TerminalProviderError,
    UnitError,
)
from extract.provider import Completion, Request
from extract.providers.openai_api import OpenAIAPI
from kg.errors import ConfigError
from tests.extract.asking import MoodMethod, moods
from tests.extract.mock_api import Behave, answer, mock_api, refuse
from tests.toy import ITEMS, toy_graph

pytestmark = pytest.mark.usefixtures("_mood_prompt")

KEY = "sk-very-secret"
REQUEST = Request("system", "prompt", {"type": "object"}, max_tokens=50, seed=3)


def complete(behave: Behave, n: int = 1, request: Request = REQUEST) -> tuple[list[Completion], list[dict[str, Any]]]:
    with mock_api(behave) as api:
        provider = OpenAIAPI(OpenAIAPI.Config(api.base_url, "m"), KEY)

        async def ask() -> list[Completion]:
            try:
                return [await provider.complete(request) for _ in range(n)]
            finally:
                await provider.close()

        return asyncio.run(ask()), api.bodies


def run(behave: Behave, tmp_path: Path, **config: Any) -> tuple[Extraction, int]:
    with mock_api(behave) as api:
        provider = OpenAIAPI(OpenAIAPI.Config(api.base_url, "m"), KEY)
        result = extract(MoodMethod(), toy_graph(), provider, tmp_path / "ledger", EngineConfig(**config))
        return result, len(api.bodies)


def test_a_request_carries_what_the_engine_asked_for() -> None:
    (got,), (body,) = complete(lambda b, n: answer("hello", usage=(7, 2)))
    assert got == Completion("hello", 7, 2)
    assert body["max_tokens"] == 50
    assert (body["seed"], body["temperature"]) == (3, 0.0)
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert [m["content"] for m in body["messages"]] == ["system", "prompt"]


def test_the_official_client_sends_the_same_and_reads_the_same() -> None:
    with mock_api(lambda b, n: answer("hello", finish="length", usage=(7, 2))) as api:
        provider = OpenAIAPI(OpenAIAPI.Config(api.base_url, "m"), KEY)
        asked = provider.body(REQUEST)
        said = openai.OpenAI(base_url=api.base_url, api_key=KEY, max_retries=0).chat.completions.create(**asked)

        async def ask() -> Completion:
            try:
                return await provider.complete(REQUEST)
            finally:
                await provider.close()

        ours = asyncio.run(ask())
    assert api.bodies[0] == api.bodies[1] == asked
    assert api.keys == [f"Bearer {KEY}"] * 2
    assert said.usage is not None
    official = Completion(said.choices[0].message.content or "", said.usage.prompt_tokens, said.usage.completion_tokens)
    assert official._replace(is_cut_off=said.choices[0].finish_reason == "length") == ours


def test_a_flood_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extract.providers.openai_api._MAX_BYTES", 10_000)
    with pytest.raises(PassingProviderError, match=r"sent more than 13,200 bytes for one reply"):
        complete(lambda b, n: answer("x" * 20_000))


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with mock_api(lambda b, n: answer("by proxy")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.base_url.removesuffix("/v1"))
        monkeypatch.delenv("no_proxy", raising=False)
        provider = OpenAIAPI(OpenAIAPI.Config("http://models.example/v1", "m"), KEY)

        async def ask() -> Completion:
            try:
                return await provider.complete(REQUEST)
            finally:
                await provider.close()

        assert asyncio.run(ask()).text == "by proxy"


def test_several_servers_share_the_load(tmp_path: Path) -> None:
    async def slowly(body: dict[str, Any], n: int) -> web.StreamResponse:
        await asyncio.sleep(0.02)
        return answer(moods("dark"))

    with mock_api(slowly) as one, mock_api(slowly) as other:
        provider = OpenAIAPI(OpenAIAPI.Config(one.base_url, "m", 4, (other.base_url,)), KEY)
        result = extract(MoodMethod(n_units=40), toy_graph(), provider, tmp_path / "ledger")
    assert result.summary.done == 40
    assert len(one.bodies) + len(other.bodies) == 40
    assert min(len(one.bodies), len(other.bodies)) >= 12


def test_a_server_that_fails_rests_while_another_answers(tmp_path: Path) -> None:
    with (
        mock_api(lambda b, n: refuse(503, "down")) as broken,
        mock_api(lambda b, n: answer(moods("dark"))) as sound,
    ):
        provider = OpenAIAPI(OpenAIAPI.Config(broken.base_url, "m", 2, (sound.base_url,)), KEY)
        result = extract(MoodMethod(n_units=30), toy_graph(), provider, tmp_path / "ledger")
    assert result.summary.done == 30
    assert len(broken.bodies) <= 2


def test_an_answer_at_the_token_limit_says_so() -> None:
    (got,), _ = complete(lambda b, n: answer("{", finish="length"))
    assert got == Completion("{", 10, 5, is_cut_off=True)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [(None, (30, 4)), ((0, 0), (30, 4)), ((7, -3), (7, 4)), (("many", 10**12), (30, 4)), ((7, 2), (7, 2))],
)
def test_tokens_that_a_server_does_not_say_are_estimated_and_marked(usage: Any, tokens: tuple[int, int]) -> None:
    (got,), _ = complete(lambda b, n: answer("twelve chars", usage=usage))
    assert got == Completion("twelve chars", *tokens, is_estimated=usage != tokens)


def test_a_budget_holds_where_a_server_says_no_tokens_and_the_summary_says_so(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="the budget of 300 tokens is spent"):
        run(lambda b, n: answer(moods("dark"), usage=None), tmp_path, budget_tokens=300, max_tokens=20)
    result, _ = run(lambda b, n: answer(moods("dark"), usage=None), tmp_path)
    assert result.summary.estimated_replies == result.summary.paid_replies == len(ITEMS)
    assert result.summary.paid_tokens > len(ITEMS)


def test_what_a_server_is_known_to_refuse_is_left_out_from_the_start() -> None:
    config = OpenAIAPI.Config("http://x/v1", "m", concede=("no_seed", "max_completion_tokens"))
    body = OpenAIAPI(config, KEY).body(REQUEST)
    assert body["max_completion_tokens"] == 50
    assert not {"max_tokens", "seed"} & set(body)


def test_a_refused_schema_is_given_up_once_and_put_into_the_instruction() -> None:
    def behave(body: dict[str, Any], n: int) -> web.Response:
        if body.get("response_format", {}).get("type") == "json_schema":
            return refuse(400, "response_format of type json_schema is not supported")
        return answer("{}")

    _, bodies = complete(behave, n=2)
    assert [b["response_format"]["type"] for b in bodies] == ["json_schema", "json_object", "json_object"]
    assert '{"type": "object"}' in bodies[1]["messages"][0]["content"]


def test_a_server_without_any_json_mode_is_asked_plainly() -> None:
    def behave(body: dict[str, Any], n: int) -> web.Response:
        return refuse(422, "unknown field response_format") if "response_format" in body else answer("{}")

    _, bodies = complete(behave, n=2)
    assert ["response_format" in b for b in bodies] == [True, True, False, False]


def test_refusals_that_arrive_together_give_up_one_thing_only() -> None:
    async def behave(body: dict[str, Any], n: int) -> web.Response:
        await asyncio.sleep(0.05)
        is_schema = body.get("response_format", {}).get("type") == "json_schema"
        return refuse(400, "response_format json_schema unsupported") if is_schema else answer("{}")

    with mock_api(behave) as api:
        provider = OpenAIAPI(OpenAIAPI.Config(api.base_url, "m"), KEY)

        async def ask() -> None:
            await asyncio.gather(*(provider.complete(REQUEST) for _ in range(4)))
            await provider.close()

        asyncio.run(ask())
        assert [b["response_format"]["type"] for b in api.bodies] == ["json_schema"] * 4 + ["json_object"] * 4


def test_newer_parameter_names_are_learnt_from_the_refusal() -> None:
    def behave(body: dict[str, Any], n: int) -> web.Response:
        if "max_tokens" in body:
            return refuse(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        if "temperature" in body:
            return refuse(400, "Unsupported value: 'temperature' does not support 0.")
        return answer("{}")

    _, bodies = complete(behave)
    assert len(bodies) == 3
    assert bodies[-1]["max_completion_tokens"] == 50


@pytest.mark.parametrize(
    ("response", "kind", "words"),
    [
        ((401, f"Incorrect API key provided: {KEY}"), TerminalProviderError, "check the key in KGLIFT_LLM_API_KEY"),
        ((403, "no"), TerminalProviderError, "says 403: no; check the key"),
        ((404, "model not found"), TerminalProviderError, "serves the model `m`"),
        ((400, "bad tools"), TerminalProviderError, "bad tools; the model `m` does not take this request"),
        ((429, "You exceeded your current quota", "insufficient_quota"), TerminalProviderError, "no quota left"),
        ((429, "slow down"), PassingProviderError, "says 429: slow down"),
        ((500, "<html><b>oops</b></html>"), PassingProviderError, "says 500: oops"),
        ((400, "maximum context length is 8"), UnitError, "larger than the model's context"),
        ((400, "the content policy", "content_filter"), RefusedUnitError, "filter refuses this text"),
    ],
)
def test_errors_say_what_to_do_and_never_show_the_key(
    response: tuple[Any, ...], kind: type[ExtractError], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        complete(lambda b, n: refuse(*response))
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_retry_after_is_carried() -> None:
    with pytest.raises(PassingProviderError) as caught:
        complete(lambda b, n: refuse(429, "wait", retry_after="7"))
    assert caught.value.retry_after_s == 7.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


def test_a_web_page_is_no_answer() -> None:
    page = "<html><body>Welcome to our gateway</body></html>"
    with pytest.raises(TerminalProviderError, match="something else than the chat API .*Welcome.* ends in `/v1`"):
        complete(lambda b, n: web.Response(text=page, content_type="text/html"))


@pytest.mark.parametrize("text", ["{", "{}", '{"choices": []}', '{"choices": null, "error": "overloaded"}'])
def test_a_damaged_answer_passes(text: str) -> None:
    with pytest.raises(PassingProviderError, match="damaged|without a choice"):
        complete(lambda b, n: web.Response(text=text, content_type="application/json"))


def test_an_unreachable_endpoint_is_one_line_without_credentials(tmp_path: Path) -> None:
    provider = OpenAIAPI(OpenAIAPI.Config("http://me:secret@127.0.0.1:9/v1?token=secret", "m"), KEY)
    with pytest.raises(
        PassingProviderError, match=r"cannot reach http://127\.0\.0\.1:9/v1: .*that the server runs"
    ) as e:
        extract(MoodMethod(), toy_graph(), provider, tmp_path / "ledger", EngineConfig(max_retries=1))
    assert "secret" not in str(e.value)
    assert "after 1 retries" in "".join(traceback.format_exception_only(e.value))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (("example.com/v1", "m"), "`base_url` is .* expected a URL"),
        (("http://me:secret@x:port/v1", "m"), "`base_url` is `http://x:port/v1`"),
        (("http://[x/v1", "m"), r"`base_url` is `http://\[x/v1`"),
        (("http://x/v1", " "), "`model` is empty"),
        (("http://x/v1", "m", 1, ("y/v1",)), "`more_urls` is `y/v1`; expected a URL"),
        (("http://x/v1", "m", 1, (), ("no_sed",)), "`concede` names `no_sed`; did you mean `no_seed`?"),
        (("http://x/v1", "m", 0), "`max_in_flight` is 0"),
    ],
)
def test_a_config_that_cannot_be(values: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        OpenAIAPI.Config(*values)


def test_a_missing_key_names_its_variable() -> None:
    with pytest.raises(
        ConfigError, match="no API key for http://x/v1; set the environment variable KGLIFT_LLM_API_KEY"
    ):
        OpenAIAPI(OpenAIAPI.Config("http://x/v1", "m"), "")


@pytest.mark.parametrize("key", ["sk-1\nX-Evil: yes", "sk-é"])
def test_a_key_that_cannot_be_sent_is_refused_unseen(key: str) -> None:
    with pytest.raises(
        ConfigError, match="KGLIFT_LLM_API_KEY holds a line break or a letter that no key has"
    ) as caught:
        OpenAIAPI(OpenAIAPI.Config("http://x/v1", "m"), key)
    assert key not in str(caught.value)


def test_half_an_emoji_is_no_damage() -> None:
    """Servers write it where a reply is cut off within a surrogate pair; strict parsers refuse all of the answer."""
    text = answer("x").text
    assert text is not None
    text = text.replace('"x"', r'"{\ud83d"')
    (got,), _ = complete(lambda b, n: web.Response(text=text, content_type="application/json"))
    assert got.text == "{\ud83d"


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        ({"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": False}, True),
        ({"type": "object", "properties": {"a": {}}, "required": ["a"]}, False),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": False}, False),
        ({"$defs": {"x": {"properties": {"a": {}}, "required": []}}}, False),
    ],
)
def test_strict_mode_is_asked_for_only_where_the_schema_allows_it(schema: dict[str, Any], strict: bool) -> None:
    assert is_strict(schema) is strict


def test_a_run_over_a_bad_day_of_a_server(tmp_path: Path) -> None:
    """429 with Retry-After, 500, a hang, a cut-off and an invalid answer: every unit is answered in the end."""
    hung: set[str] = set()

    async def behave(body: dict[str, Any], n: int) -> web.StreamResponse:
        said = body["messages"][1]["content"]
        if "item:1" in said and n < 9:
            return refuse(429, "wait", retry_after="0.1")
        if "item:2" in said and "item:2" not in hung:
            hung.add("item:2")
            await asyncio.sleep(1.0)
        if "item:3" in said and "item:3" not in hung:
            hung.add("item:3")
            return web.Response(status=500, text="<html>oops</html>", content_type="text/html")
        if "refused" not in said and "item:4" in said:
            return answer(moods("dark"), finish="length")
        if "refused" not in said and "item:5" in said:
            return answer('{"moods": "dark"}')
        return answer(moods("dark"))

    result, _ = run(behave, tmp_path, timeout_s=0.4)
    summary = result.summary
    assert (summary.total, summary.done, summary.calls) == (8, 8, 10)
    assert summary.retries >= 3


def test_a_wrong_key_stops_at_once(tmp_path: Path) -> None:
    with mock_api(lambda b, n: refuse(401, f"bad key {KEY}")) as api:
        provider = OpenAIAPI(OpenAIAPI.Config(api.base_url, "m", max_in_flight=2), KEY)
        with pytest.raises(TerminalProviderError, match=r"401: bad key \*\*\*; check the key"):
            extract(MoodMethod(), toy_graph(), provider, tmp_path / "ledger")
    assert len(api.bodies) <= 2


def test_an_answer_that_breaks_off_is_asked_for_again(tmp_path: Path) -> None:
    whole = answer(moods("dark")).text
    assert whole is not None

    async def break_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "5000"})
        await response.prepare(request)
        await response.write(whole[:40].encode())
        assert request.transport is not None
        request.transport.close()
        return response

    with mock_api(lambda b, n: answer(moods("dark"))) as api:
        broken = iter([break_off])

        async def once(request: web.Request) -> web.StreamResponse:
            return await next(broken, api.handle)(request)

        api.serve = once
        provider = OpenAIAPI(OpenAIAPI.Config(api.base_url, "m"), KEY)
        result = extract(MoodMethod(), toy_graph(), provider, tmp_path / "ledger")
    assert (result.summary.done, result.summary.retries) == (8, 1)


def test_a_server_that_changes_the_form_in_mid_run_loses_nothing_of_before(tmp_path: Path) -> None:
    def behave(body: dict[str, Any], n: int) -> web.Response:
        return answer(moods("dark") if n <= 3 else '{"feelings": "dark"}')

    with mock_api(behave) as api:
        provider = OpenAIAPI(OpenAIAPI.Config(api.base_url, "m", max_in_flight=1), KEY)
        result = extract(MoodMethod(), toy_graph(), provider, tmp_path / "ledger", EngineConfig(max_attempts=2))
    summary = result.summary
    assert (summary.done, summary.set_aside, summary.calls) == (3, 5, 3 + 2 * 5)
    assert summary.set_aside_reasons["invalid_reply"].examples == ("item:4", "item:5", "item:6")
    assert set(result.graph.sources["unit"].to_pylist()) == {"item:1", "item:2", "item:3"}
