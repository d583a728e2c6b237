"""Facts that a model finds in sentences, each with the words that state it: what `extract score` asks for."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.config import JsonDict

from extract.documents import clean
from extract.engine import EngineConfig, Extraction, extract
from extract.ground import concept_id, is_placeholder, normalise
from extract.method import Facts, Method, Rejected, Unit
from extract.provider import Provider
from extract.score import Example, Fact, Ontology, relation_name
from kg.graph import Graph
from kg.progress import Progress, silent

_MAX_FACTS = 5
_MAX_NAME = 100
_MAX_QUOTE = 300
_STRICT = ConfigDict(extra="forbid")


class SentenceFacts(Method):
    """Ask which facts a sentence states, and keep those whose quote stands in it, as the engine checks.

    Rejected, with these reasons: `unknown_relation`, `placeholder`, `duplicate`, and by the engine `quote_not_in_text`.

    Args:
        examples: sentences; their gold facts are not shown.
        ontology: its relations may be used.
    """

    name = "sentence_facts"
    prompt = "sentence_facts.v2"

    def __init__(self, examples: Sequence[Example], ontology: Ontology) -> None:
        super().__init__(None)
        self._examples = examples
        self._relations = {relation_name(r): r for r in ontology.relations}
        allowed: JsonDict = {"enum": list(self._relations)}
        relation: Any = Annotated[str, Field(max_length=_MAX_NAME, json_schema_extra=allowed)]
        words: Any = _words(_MAX_NAME, usual=60)
        quote: Any = _words(_MAX_QUOTE, usual=120)
        # The quote comes first: a small model that begins with the sentence's own words invents less after them.
        ends: Any = {"head": (words, ...), "relation": (relation, ...), "tail": (words, ...)}
        fact: Any = create_model("Fact", __config__=_STRICT, quote=(quote, ...), **ends)
        self.Reply = create_model(
            "SentenceFacts", __config__=_STRICT, facts=(Annotated[list[fact], Field(max_length=_MAX_FACTS)], ...)
        )

    def units(self, graph: Graph) -> Iterator[Unit]:
        """Yield a question for each sentence.

        Args:
            graph: not needed.
        """
        constant = {"relations": list(self._relations), "max_facts": _MAX_FACTS}
        for example in self._examples:
            yield Unit(example.example_id, {**constant, "sentence": clean(example.sentence)})

    def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
        """Turn facts into triples between names.

        Args:
            reply: a `Reply` of this method.
            unit: the question; quotes must stand in its sentence.
            graph: not needed.
        """
        entities: dict[str, dict[str, Any]] = {}
        triples: dict[Fact, dict[str, Any]] = {}
        rejected = []
        for said in reply.model_dump()["facts"]:
            ends = [(concept_id("Name", clean(said[end]))[0], clean(said[end], _MAX_NAME)) for end in ("head", "tail")]
            key = (ends[0][0], relation_name(said["relation"]), ends[1][0])
            fault = "" if key[1] in self._relations else "unknown_relation"
            fault = fault or ("placeholder" if any(is_placeholder(normalise(name)) for _, name in ends) else "")
            fault = fault or ("duplicate" if key in triples else "")
            if fault:
                rejected.append(Rejected(fault, f"{key[1]}({ends[0][1]}, {ends[1][1]}): {said['quote']}"))
                continue
            entities |= {i: {"entity_id": i, "type": "Name", "name": name} for i, name in ends if i not in entities}
            triple = {"head": key[0], "relation": key[1], "tail": key[2], "confidence": 1.0}
            triples[key] = triple | {"quote": said["quote"]}
        return Facts({"entities": list(entities.values()), "triples": list(triples.values())}, rejected)


def ask_sentences(
    examples: Sequence[Example],
    ontology: Ontology,
    provider: Provider,
    ledger_path: Path,
    config: EngineConfig | None = None,
    progress: Progress = silent,
) -> tuple[Mapping[str, tuple[Fact, ...]], Extraction]:
    """Ask a model for the facts of sentences.

    Args:
        examples: sentences; their gold facts are not shown.
        ontology: its relations may be used.
        provider: answers.
        ledger_path: where replies are kept.
        config: how to ask.
        progress: told after every sentence.

    Returns:
        Facts by id of a sentence, for `extract.score.score`, and the extraction they come from.
    """
    method = SentenceFacts(examples, ontology)
    result = extract(method, Graph.from_tables(), provider, ledger_path, config or EngineConfig(), progress)
    names = result.graph.names()
    unit_of = {row["source"]: row["unit"] for row in result.graph.sources.to_pylist()}
    said: dict[str, list[Fact]] = {}
    for row in result.graph.triples.to_pylist():
        said.setdefault(unit_of[row["source"]], []).append((names[row["head"]], row["relation"], names[row["tail"]]))
    return {unit: tuple(facts) for unit, facts in said.items()}, result


def _words(most: int, usual: int) -> Any:
    """Return the type of a text; the schema keeps small models from rambling, validation allows more."""
    return Annotated[str, Field(min_length=1, max_length=most, json_schema_extra={"maxLength": usual})]
