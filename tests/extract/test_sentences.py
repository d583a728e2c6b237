"""Facts of sentences are kept only with a quote that stands in the sentence."""

import json
from pathlib import Path
from typing import Any

from extract.score import Example, Ontology, score
from extract.sentences import ask_sentences
from tests.extract.asking import scripted

_HEAT = Example("1", "Heat: The Film is directed by Michael Mann.", (("Heat: The Film", "director", "Michael Mann"),))
_ONTOLOGY = Ontology(("film",), ("director", "cast member"))


def said(quote: str = "directed by  MICHAEL Mann", **changed: str) -> dict[str, Any]:
    return {"head": "Heat: The Film", "relation": "director", "tail": "Michael Mann", "quote": quote, **changed}


def test_facts_with_their_quote_are_scored(tmp_path: Path) -> None:
    provider = scripted([json.dumps({"facts": [said()]})])
    facts, result = ask_sentences([_HEAT], _ONTOLOGY, provider, tmp_path / "ledger")
    assert facts == {"1": _HEAT.facts}
    assert score([_HEAT], facts, _ONTOLOGY).strict.f1 == 1.0
    assert result.summary.done == 1
    assert "Michael Mann" in provider.requests[0].prompt


def test_what_the_sentence_does_not_say_is_rejected_with_its_reason(tmp_path: Path) -> None:
    given = [said("a film by Mann", tail="Mann"), said(relation="genre"), said(tail="unknown"), said(), said()]
    provider = scripted([json.dumps({"facts": given})])
    facts, result = ask_sentences([_HEAT], _ONTOLOGY, provider, tmp_path / "ledger")
    assert {reason: found.count for reason, found in result.summary.rejects.items()} == dict.fromkeys(
        ("quote_not_in_text", "unknown_relation", "placeholder", "duplicate"), 1
    )
    assert [relation for _, relation, _ in facts["1"]] == ["director"]
    assert set(result.graph.sources["quote"].to_pylist()) == {"directed by MICHAEL Mann"}


def test_a_sentence_without_an_answer_has_no_fact(tmp_path: Path) -> None:
    provider = scripted([json.dumps({"facts": []})])
    facts, result = ask_sentences([_HEAT], _ONTOLOGY, provider, tmp_path / "ledger")
    assert facts == {}
    assert result.summary.empty == 1
