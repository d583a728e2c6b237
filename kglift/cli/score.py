"""`kglift extract score`: extracted facts against a gold standard, beside a baseline without an LLM."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kglift.cli.asking import LEDGER, LedgerFile
from kglift.cli.options import AsJson
from kglift.cli.output import print_json, print_rows
from kglift.errors import RunError

Gold = Annotated[Path, typer.Argument(metavar="GOLD", help="JSONL: id, sent, triples of sub, rel, obj.")]
OntologyFile = Annotated[Path, typer.Option("--ontology", help="JSON: concepts and relations, each with a label.")]
Answers = Annotated[
    list[Path] | None, typer.Option("--answers", help="JSONL: id, response or triples; may be given often.")
]
Train = Annotated[
    Path | None, typer.Option("--train", help="JSONL of training facts: scores the spaCy baseline beside the answers.")
]

Ask = Annotated[str, typer.Option("--ask", metavar="PROVIDER", help="Ask a model, too: auto, local, openai_api.")]
Limit = Annotated[int, typer.Option("--limit", min=0, help="Only the first so many sentences; 0: all.")]
_QUALITY = ("precision", "recall", "f1")
_SHARES = ("conformance", "head_hallucination", "relation_hallucination", "tail_hallucination")


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("score", epilog="Example: kglift extract score gold.jsonl --ontology movie.json --answers said.jsonl")(
        score_command
    )


def score_command(
    gold: Gold,
    ontology: OntologyFile,
    answers: Answers = None,
    train: Train = None,
    ask: Ask = "",
    limit: Limit = 0,
    ledger: LedgerFile = LEDGER,
    as_json: AsJson = False,
) -> None:
    """Score facts by precision, recall, F1, ontology conformance and hallucination; with --json by relation, too."""
    from extract.score import score
    from extract.text2kgbench import read_answers, read_examples, read_ontology, read_train

    if not answers and train is None and not ask:
        msg = "there is nothing to score; give --answers FILE, --train FILE for the spaCy baseline, or --ask PROVIDER"
        raise RunError(msg)
    examples, allowed = read_examples(gold)[: limit or None], read_ontology(ontology)
    scores = {path.name: score(examples, read_answers(path), allowed) for path in answers or []}
    if train is not None:
        from extract.spacy_baseline import SpacyBaseline

        scores["spaCy baseline"] = score(examples, SpacyBaseline(read_train(train)).extract(examples), allowed)
    if ask:
        from extract.sentences import ask_sentences
        from kglift.plan import LlmPlan
        from kglift.settings import open_provider, resolve_llm

        provider = open_provider(resolve_llm(LlmPlan(ask)))
        said, _ = ask_sentences(examples, allowed, provider, ledger)
        scores[provider.model] = score(examples, said, allowed)
    if as_json:
        print_json({name: found.to_dict() for name, found in scores.items()})
    else:
        print_rows(f"{len(examples)} sentences", ["what", *scores], _rows(list(scores.values())))


def _rows(scores: list[Any]) -> list[list[Any]]:
    rows: list[list[Any]] = [["facts", *(found.n_facts for found in scores)]]
    for kind in ("published", "strict"):
        rows += [[f"{kind} {k}", *(f"{getattr(getattr(s, kind), k):.3f}" for s in scores)] for k in _QUALITY]
    return rows + [[share.replace("_", " "), *(f"{getattr(s, share):.3f}" for s in scores)] for share in _SHARES]
