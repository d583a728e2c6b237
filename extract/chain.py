"""Where a unit stands: its chain of question, refused reply and second question, read from the ledger."""

import hashlib
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from pydantic import BaseModel

from extract.engine_config import EngineConfig
from extract.judge import ask_again, judge, judge_last
from extract.ledger import Ledger
from extract.ledger_rows import StoredReply
from extract.method import Method, Unit
from extract.provider import Completion, Request
from extract.template import Prompt

_AT_ONCE = 64


class Chain(NamedTuple):
    """What the ledger knows of one unit.

    Attributes:
        unit: the question.
        first_key: address of the first request; the right to ask is claimed under it.
        key: address of the next request, or of the last one where the chain is at its end.
        prompt: text of that request.
        attempts: replies so far.
        reply: the valid reply, if there is one.
        parsed: the same, validated.
        reason: why the last reply was refused.
        is_repaired: the reply was valid only after its form was mended.
        is_open: a request is still to be sent.
    """

    unit: Unit
    first_key: str
    key: str
    prompt: str
    attempts: int
    reply: StoredReply | None = None
    parsed: BaseModel | None = None
    reason: str = ""
    is_repaired: bool = False
    is_open: bool = True


class Questions:
    """Turns units into requests with addresses, and walks their chains.

    Args:
        method: asks and knows the reply model.
        prompt: its template.
        model: identity of the model.
        config: what requests carry.
    """

    def __init__(self, method: Method, prompt: Prompt, model: str, config: EngineConfig) -> None:
        self.prompt = prompt
        self._config = config
        self.model = model
        self._reply_type = method.Reply
        self._schema = method.Reply.model_json_schema()
        self.request_parameters = _json(
            {
                "max_tokens": config.max_tokens,
                "temperature": config.temperature,
                "seed": config.seed,
            }
        )
        same = _json([model, self.request_parameters, storable(prompt.system), self._schema])
        self._same = hashlib.sha256(same.encode())
        self.run = hashlib.sha256(
            _json([method.name, prompt.name, prompt.version, prompt.sha, same]).encode()
        ).hexdigest()

    def start(self, unit: Unit) -> Chain:
        """Return the chain of a unit about which nothing is known yet.

        Raises:
            PromptError: if the unit's variables do not fit the template.
        """
        prompt = storable(self.prompt.render(unit.variables))
        key = self._key(prompt)
        return Chain(unit, key, key, prompt, 0)

    def chains(self, units: Iterator[Unit], ledger: Ledger) -> Iterator[Chain]:
        """Start the chains of units and follow them as far as the ledger goes, some at once.

        A unit that was set aside without an answer is not open, until `Ledger.retire` opens it again.

        Raises:
            PromptError: if a unit's variables do not fit the template.
        """
        unanswered = ledger.unanswered(self.run)
        while batch := [self.start(unit) for unit in islice(units, _AT_ONCE)]:
            known = ledger.replies([chain.key for chain in batch])
            for chain in batch:
                if (stored := known.get(chain.key)) is not None:
                    chain = self.follow(self.answered(chain, stored)[0], ledger)
                if chain.is_open and chain.unit.unit_id in unanswered:
                    chain = chain._replace(is_open=False, reason=unanswered[chain.unit.unit_id])
                yield chain

    def follow(self, chain: Chain, ledger: Ledger) -> Chain:
        """Follow a chain as far as the ledger goes."""
        while chain.is_open and (stored := ledger.reply(chain.key)) is not None:
            chain, _ = self.answered(chain, stored)
        return chain

    def answered(self, chain: Chain, stored: StoredReply) -> tuple[Chain, tuple[str, ...]]:
        """Return where a chain stands after a reply, and why the reply was refused; nothing for a valid one."""
        attempts = chain.attempts + 1
        is_last = attempts >= self._config.max_attempts
        verdict = (judge_last if is_last else judge)(stored.text, stored.is_cut_off, self._reply_type)
        if verdict.parsed is not None:
            valid = Chain(
                chain.unit,
                chain.first_key,
                chain.key,
                chain.prompt,
                attempts,
                reply=stored,
                parsed=verdict.parsed,
                reason=chain.reason,
                is_repaired=verdict.is_repaired,
                is_open=False,
            )
            return valid, verdict.errors
        if is_last:
            return chain._replace(attempts=attempts, reason=verdict.reason, is_open=False), verdict.errors
        prompt = ask_again(chain.prompt, verdict.errors, attempts)
        asked_again = chain._replace(key=self._key(prompt), prompt=prompt, attempts=attempts, reason=verdict.reason)
        return asked_again, verdict.errors

    def request(self, chain: Chain) -> Request:
        """Return the next request of a chain."""
        c = self._config
        return Request(
            system=storable(self.prompt.system),
            prompt=chain.prompt,
            schema=self._schema,
            max_tokens=c.max_tokens,
            temperature=c.temperature,
            seed=c.seed,
            unit_id=chain.unit.unit_id,
        )

    def _key(self, prompt: str) -> str:
        digest = self._same.copy()
        digest.update(prompt.encode())
        return digest.hexdigest()


def stored_reply(key: str, completion: Completion) -> StoredReply:
    """Return a completion as the ledger keeps it."""
    c = completion
    return StoredReply(key, storable(c.text), c.is_cut_off, c.n_prompt_tokens, c.n_completion_tokens, c.is_estimated)


def storable(text: str) -> str:
    """Return a text without lone surrogates, which neither SQLite nor Arrow can hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
