"""A sentence encoder, tiny and random in the fast lane, MiniLM in the slow one."""

import sqlite3
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extract.encode import SentenceEncoder
from extract.errors import ExtractorMissingError
from kg.errors import ConfigError, FileFormatError
from kglift.downloads import cached_path, is_cached

transformers: Any = pytest.importorskip("transformers", reason="the extra `transformers` is not installed")
_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dark", "mood", "light"]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A BERT of one layer that knows three words."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(_WORDS))
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(vocab_size=len(_WORDS), max_position_embeddings=160, **sizes)
    transformers.set_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def test_a_vector_is_the_mean_over_the_words_of_its_text_and_does_not_depend_on_others(tiny: Path) -> None:
    import torch

    encode = SentenceEncoder(tiny)
    together = encode(["dark mood light mood dark", "dark mood", "light"])
    assert together.shape == (3, 8)
    assert np.linalg.norm(together, axis=1) == pytest.approx([1.0, 1.0, 1.0], abs=1e-5)
    assert encode(["dark mood"])[0] == pytest.approx(together[1], abs=1e-5)
    model, tokenizer = (getattr(transformers, c).from_pretrained(tiny) for c in ("AutoModel", "AutoTokenizer"))
    with torch.inference_mode():
        mean = model(**tokenizer("dark mood", return_tensors="pt")).last_hidden_state[0].mean(0).numpy()
    assert together[1] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)


def test_what_was_encoded_is_kept_and_not_encoded_again(tiny: Path, tmp_path: Path) -> None:
    memory = tmp_path / "new" / "vectors.sqlite"
    first = SentenceEncoder(tiny, memory)(["dark", "light", "dark"])
    assert first[0] == pytest.approx(first[2])
    again = SentenceEncoder(tiny, memory)
    again._encode = None  # type: ignore[method-assign, assignment]  # would fail if it were needed
    assert np.array_equal(again(["light", "dark"]), first[[1, 0]])


def test_another_model_does_not_get_the_vectors_of_the_first(tiny: Path, tmp_path: Path) -> None:
    memory = tmp_path / "vectors.sqlite"
    first = SentenceEncoder(tiny, memory)(["dark"])
    transformers.set_seed(1)
    transformers.BertModel(transformers.BertConfig.from_pretrained(tiny)).save_pretrained(tiny)
    other = SentenceEncoder(tiny, memory)(["dark"])
    assert not np.allclose(first, other)
    with sqlite3.connect(memory) as kept:
        assert kept.execute("SELECT count(DISTINCT model) FROM vectors").fetchone() == (2,)


def test_a_text_of_any_length_and_an_empty_one_have_vectors(tiny: Path) -> None:
    assert np.isfinite(SentenceEncoder(tiny)(["", "dark " * 1000, "\x00"])).all()


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"`{tmp_path}` holds no `model.safetensors`; .*kglift data where"):
        SentenceEncoder(tmp_path)


def test_a_damaged_model_is_named(tiny: Path) -> None:
    (tiny / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=f"`{tiny}` does not load: .*fetch the encoder again"):
        SentenceEncoder(tiny)(["dark"])


def test_a_file_of_something_else_is_no_file_of_vectors(tiny: Path, tmp_path: Path) -> None:
    memory = tmp_path / "notes.txt"
    memory.write_text("these are notes, and not short ones either " * 50)
    with pytest.raises(FileFormatError, match=r"notes.txt` is no file of vectors: file is not a database; delete it"):
        SentenceEncoder(tiny, memory)(["dark"])
    assert memory.read_text().startswith("these are notes")


def test_without_transformers_one_line_says_what_to_install(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ExtractorMissingError, match=r"pip install kglift\[transformers\]"):
        SentenceEncoder(tiny)(["dark"])


@pytest.mark.slow
def test_minilm_knows_which_names_mean_the_same() -> None:
    if not is_cached("all-minilm-l6-v2"):
        pytest.skip("the encoder is not here: kglift data get all-minilm-l6-v2")
    encode = SentenceEncoder(cached_path("all-minilm-l6-v2"))
    bros, brothers, dark, light = encode(["warner bros", "warner brothers", "dark mood", "light mood"])
    assert bros @ brothers == pytest.approx(0.91, abs=0.01)
    assert dark @ light < 0.85
