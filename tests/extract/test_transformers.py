"""A `transformers` model, tiny and random in the fast lane, small and real in the slow one."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from extract.engine import EngineConfig, extract
from extract.errors import TerminalProviderError, UnitError
from extract.provider import Completion, Request
from extract.providers.hf_transformers import Transformers
from kg.errors import ConfigError
from tests.extract.asking import MoodMethod, check_totals
from tests.toy import toy_graph

os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers: Any = pytest.importorskip("transformers", reason="the extra `transformers` is not installed")
_GGUF = Path.home() / ".cache/kglift/models/smollm2-135m-0.1.2/SmolLM2-135M-Instruct.Q4_1.gguf"
_SCHEMA = {"type": "object", "properties": {"moods": {"type": "array"}}}


def request(words: str, max_tokens: int = 6, **more: Any) -> Request:
    return Request("Say.", words, _SCHEMA, max_tokens=max_tokens, unit_id=words.split()[0], **more)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a random Llama of two layers with a tokenizer of single bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    path = tmp_path_factory.mktemp("tiny")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {token: number for number, token in enumerate(["<end>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(path)
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        **{"vocab_size": len(words), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2},
        **{"num_attention_heads": 2, "max_position_embeddings": 512, "eos_token_id": 0, "bos_token_id": 0},
    )
    transformers.LlamaForCausalLM(config).save_pretrained(path)
    return path


def ask(provider: Transformers, *requests: Request) -> list[Completion | BaseException]:
    async def work() -> list[Completion | BaseException]:
        try:
            return await asyncio.gather(*map(provider.complete, requests), return_exceptions=True)
        finally:
            await provider.close()

    return asyncio.run(work())


def test_requests_that_come_together_are_one_batch(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    generate = Transformers._generate

    def watched(self: Transformers, requests: list[Request]) -> Any:
        sizes.append(len(requests))
        return generate(self, requests)

    monkeypatch.setattr(Transformers, "_generate", watched)
    provider = Transformers(Transformers.Config(tiny, batch_size=4))
    got = ask(provider, *(request(f"{n} words") for n in range(6)), request("other", max_tokens=3))
    assert sizes == [4, 2, 1]
    assert all(isinstance(one, Completion) for one in got)
    assert isinstance(got[-1], Completion)
    assert got[-1].n_completion_tokens <= 3


def test_a_reply_in_a_batch_is_the_reply_alone(tiny: Path) -> None:
    asked = [request("short"), request("a much longer prompt than the other one")]
    together = ask(Transformers(Transformers.Config(tiny)), *asked)
    alone = [ask(Transformers(Transformers.Config(tiny)), one)[0] for one in asked]
    assert together == alone
    assert isinstance(alone[0], Completion)
    assert alone[0].n_prompt_tokens > 0
    assert alone[0].is_cut_off or alone[0].n_completion_tokens < 6


def test_one_that_is_too_large_does_not_spoil_its_batch(tiny: Path) -> None:
    small, large = ask(Transformers(Transformers.Config(tiny)), request("small"), request("large " * 200))
    assert isinstance(small, Completion)
    assert isinstance(large, UnitError)
    assert "the context of" in str(large)
    assert "is 512; lower `max_tokens` or show less" in str(large)


@pytest.mark.usefixtures("_mood_prompt")
def test_the_engine_asks_it_and_sets_aside_what_is_no_json(tiny: Path, tmp_path: Path) -> None:
    provider = Transformers(Transformers.Config(tiny))
    result = extract(MoodMethod(), toy_graph(), provider, tmp_path / "l", EngineConfig(max_tokens=4, max_attempts=1))
    assert result.summary.set_aside == 8
    assert result.summary.calls == 8
    check_totals(result)


def test_its_identity_is_that_of_its_weights(tiny: Path) -> None:
    name, _, sha = Transformers(Transformers.Config(tiny)).model.partition("@")
    assert (name, len(sha)) == (tiny.name, 12)


def test_a_directory_without_a_model(tmp_path: Path, tiny: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no `config\.json`; give the directory"):
        Transformers(Transformers.Config(tmp_path))
    with pytest.raises(ConfigError, match="`batch_size` is 0"):
        Transformers.Config(tiny, batch_size=0)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    (said,) = ask(Transformers(Transformers.Config(tmp_path)), request("x"))
    assert isinstance(said, TerminalProviderError)
    assert "does not load" in str(said)


def test_without_transformers_one_line_says_what_to_install(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    (said,) = ask(Transformers(Transformers.Config(tiny)), request("x"))
    assert isinstance(said, TerminalProviderError)
    assert "pip install kglift[transformers]" in str(said)


@pytest.mark.slow
def test_a_small_real_model_answers_in_batches(tmp_path: Path) -> None:
    if not _GGUF.exists():
        pytest.skip("run `kglift data get smollm2-135m` first")
    for needed in ("gguf", "accelerate"):
        pytest.importorskip(needed, reason="transformers reads a GGUF file by it")
    place = {"pretrained_model_name_or_path": str(_GGUF.parent), "gguf_file": _GGUF.name}
    transformers.AutoTokenizer.from_pretrained(**place).save_pretrained(tmp_path)
    read = transformers.AutoModelForCausalLM.from_pretrained(**place)
    config = transformers.LlamaConfig(**{k: v for k, v in read.config.to_dict().items() if k != "quantization_config"})
    plain = transformers.LlamaForCausalLM(config)
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(tmp_path)
    provider = Transformers(Transformers.Config(tmp_path))
    asked = [Request("You are brief.", f"What is the capital of {c}?", {}, 40) for c in ("France", "Italy", "Japan")]
    texts = [str(one) if isinstance(one, BaseException) else one.text for one in ask(provider, *asked)]
    assert [city in text for city, text in zip(("Paris", "Rome", "Tokyo"), texts, strict=True)] == [True] * 3, texts
