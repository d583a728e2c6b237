"""Files of Text2KGBench: ontologies, sentences with gold facts, and the recorded answers of two models."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from extract.recorded import read_text
from extract.score import Example, Fact, Ontology
from kg.errors import FileFormatError

_Line = TypeVar("_Line", bound=BaseModel)
_NAME = r"[\w\\][\w\\ -]{0,60}"
_CALL = re.compile(rf'({_NAME})\(([^,\n]+?),([^\n]+?)\)(?=[)\s.,;"]*(?:$|{_NAME}\())', re.MULTILINE)


class _Named(BaseModel):
    label: str


class _Ontology(BaseModel):
    concepts: list[_Named]
    relations: list[_Named]


class _Triple(BaseModel):
    sub: str
    rel: str
    obj: str


class _Gold(BaseModel):
    id: str
    sent: str
    triples: list[_Triple]


class _Row(BaseModel):
    id: str
    sent: str
    sub_label: str
    rel_label: str
    obj_label: str


class _Answer(BaseModel):
    id: str
    response: str = ""
    triples: list[_Triple | tuple[str, str, str]] = []


def read_ontology(path: Path) -> Ontology:
    """Read an ontology file (JSON with `concepts` and `relations`, each with a `label`).

    Raises:
        FileFormatError: if it is missing or of another form.
    """
    text = read_text(path.parent, path.name)
    try:
        found = _Ontology.model_validate_json(text)
    except ValidationError as error:
        msg = f"`{path}` is no ontology: expected JSON with `concepts` and `relations`, each with a `label`"
        raise FileFormatError(msg) from error
    return Ontology(tuple(c.label for c in found.concepts), tuple(r.label for r in found.relations))


def read_examples(path: Path) -> list[Example]:
    """Read sentences with gold facts: JSONL with `id`, `sent` and `triples` of `sub`, `rel`, `obj`; perhaps gzipped.

    Raises:
        FileFormatError: if the file is missing or a line is of another form.
    """
    return [
        Example(gold.id, gold.sent, tuple((t.sub, t.rel, t.obj) for t in gold.triples)) for gold in _lines(path, _Gold)
    ]


def read_train(path: Path) -> list[Example]:
    """Read sentences for training: JSONL with a fact a line (`sent`, `sub_label`, `rel_label`, `obj_label`).

    Raises:
        FileFormatError: if the file is missing or a line is of another form.
    """
    facts: dict[str, list[Fact]] = {}
    for row in _lines(path, _Row):
        facts.setdefault(row.sent, []).append((row.sub_label, row.rel_label, row.obj_label))
    return [Example(f"train:{n}", sentence, tuple(some)) for n, (sentence, some) in enumerate(facts.items())]


def read_answers(path: Path) -> Mapping[str, tuple[Fact, ...]]:
    """Read answers: JSONL with `id` and `response`, lines like `director(Heat,Michael Mann)`, or else `triples`.

    Of two answers to one sentence the first counts.

    Raises:
        FileFormatError: if the file is missing or a line is of another form.
    """
    said: dict[str, tuple[Fact, ...]] = {}
    for answer in _lines(path, _Answer):
        given = tuple(t if isinstance(t, tuple) else (t.sub, t.rel, t.obj) for t in answer.triples)
        said.setdefault(answer.id, parse_calls(answer.response) or given)
    return said


def parse_calls(text: str) -> tuple[Fact, ...]:
    """Read facts that a model wrote as relation(head,tail), wherever they stand; never raises on any text."""
    found = ((head.strip(), name.strip().replace("\\", ""), tail.strip()) for name, head, tail in _CALL.findall(text))
    return tuple(fact for fact in found if all(fact))


def _lines(path: Path, kind: type[_Line]) -> list[_Line]:
    found = []
    for number, line in enumerate(read_text(path.parent, path.name).splitlines(), 1):
        try:
            found.append(kind.model_validate(json.loads(line)))
        except ValueError as error:
            fields = ", ".join(kind.model_fields)
            msg = f"`{path}`, line {number}, is `{line[:60]}`; expected a JSON object with {fields}"
            raise FileFormatError(msg) from error
    return found
