"""What an extraction may cost, said before anything is sent."""

from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from extract.chain import Questions
from extract.engine_config import EngineConfig
from extract.ledger import Ledger
from extract.method import Method
from extract.pace import n_prompt_tokens
from extract.provider import Provider
from extract.template import load_prompt
from kg.graph import Graph
from kg.terms import TRAIN


@dataclass(frozen=True)
class Estimate:
    """What is open, and what it may cost if every first reply is valid.

    Attributes:
        total: units.
        open: units whose next question has no reply in the ledger.
        prompt_tokens: of the open questions, by their length.
        likely_completion_tokens: as many a reply as the earlier ones of this run had; without any, the bound.
        most_completion_tokens: `max_tokens` a reply.
        likely_cost: at the configured prices.
        most_cost: at the configured prices, with the bound.
    """

    total: int
    open: int
    prompt_tokens: int
    likely_completion_tokens: int
    most_completion_tokens: int
    likely_cost: float
    most_cost: float

    def to_dict(self) -> dict[str, Any]:
        """Return the estimate as plain JSON values."""
        return asdict(self)


def estimate(
    method: Method, graph: Graph, provider: Provider, ledger_path: Path, config: EngineConfig | None = None
) -> Estimate:
    """Count what is open, and price it; nothing is sent.

    Args:
        method: asks the questions.
        graph: the data set, split.
        provider: would answer; only its identity counts.
        ledger_path: what it holds is not asked again.
        config: how the questions would be asked; its prices count.

    Raises:
        PromptError: if a unit's variables do not fit the prompt.
        LedgerError: if the ledger cannot be used.
    """
    config = config or EngineConfig()
    questions = Questions(method, load_prompt(method.prompt), provider.model, config)
    seen = graph.replace(interactions=graph.interactions_of(TRAIN))
    total = n_open = prompt = 0
    with Ledger(ledger_path) as ledger:
        for unit in islice(method.units(seen), config.max_units):
            total += 1
            chain = questions.follow(questions.start(unit), ledger)
            if chain.is_open:
                n_open += 1
                prompt += n_prompt_tokens(questions.request(chain))
        replies, _, paid = ledger.paid(questions.run)
    most = n_open * config.max_tokens
    likely = min(most, round(n_open * paid / replies)) if replies else most
    return Estimate(total, n_open, prompt, likely, most, config.cost(prompt, likely), config.cost(prompt, most))
