"""Is a reply what was asked for? If not: what to say to the model."""

import re
from dataclasses import dataclass, replace

from pydantic import BaseModel, ValidationError

from extract.repair import repair

_WRAPPED = re.compile(
    r"\s*(?:<think>.*?</think>)?\s*(?:```(?:json)?\s*(?P<fenced>.*?)\s*```|(?P<bare>.*?))\s*", re.DOTALL
)
_MAX_ERRORS = 5
_MAX_CHARS = 200


@dataclass(frozen=True)
class Verdict:
    """What became of a reply: parsed, or the errors to tell the model.

    Attributes:
        parsed: the validated reply; None where it was refused.
        errors: why it was refused, in words for the model.
        reason: a short fixed code for the summary: `cut_off`, `invalid_json` or `invalid_reply`.
        is_repaired: the reply was valid only after its form was mended.
    """

    parsed: BaseModel | None
    errors: tuple[str, ...] = ()
    reason: str = ""
    is_repaired: bool = False


def judge(text: str, is_cut_off: bool, reply_type: type[BaseModel]) -> Verdict:
    """Validate a reply; never raises on any text.

    Reasoning in `<think>` and a Markdown fence around the JSON are taken off; nothing else is mended, and a reply that
    was cut off is refused even where it happens to parse: its end is missing.

    Args:
        text: what the model wrote.
        is_cut_off: it ended at the token limit.
        reply_type: the pydantic model that it must fit.
    """
    if is_cut_off:
        return Verdict(None, ("the answer was longer than allowed and was cut off; give a shorter one",), "cut_off")
    try:
        return Verdict(reply_type.model_validate_json(text if text.startswith("{") else _unwrapped(text)))
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
    reason = "invalid_json" if any(e["type"] == "json_invalid" for e in found) else "invalid_reply"
    lines = [_describe(e["loc"], e["msg"]) for e in found[:_MAX_ERRORS]]
    if len(found) > _MAX_ERRORS:
        lines.append(f"and {len(found) - _MAX_ERRORS} more errors")
    return Verdict(None, tuple(lines), reason)


def judge_last(text: str, is_cut_off: bool, reply_type: type[BaseModel]) -> Verdict:
    """Validate the last reply that a unit may have: where `judge` refuses its form, mend it; never raises on any text.

    Args:
        text: what the model wrote.
        is_cut_off: it ended at the token limit; such a reply is never mended.
        reply_type: the pydantic model that it must fit.
    """
    verdict = judge(text, is_cut_off, reply_type)
    if verdict.reason != "invalid_json" or (mended := repair(text)) is None:
        return verdict
    again = judge(mended, is_cut_off, reply_type)
    return replace(again, errors=verdict.errors, is_repaired=True) if again.parsed is not None else verdict


def ask_again(prompt: str, errors: tuple[str, ...], attempt: int) -> str:
    """Return the prompt with the errors of the last answer appended.

    Args:
        prompt: the prompt that was refused its answer, with the errors of earlier answers.
        errors: why the last answer was refused.
        attempt: the number of that answer, from 1.
    """
    listed = "\n".join(f"- {error}" for error in errors)
    return f"{prompt}\n\nAnswer {attempt} was refused:\n{listed}\nAnswer again, with valid JSON in the form asked for."


def _unwrapped(text: str) -> str:
    match = _WRAPPED.fullmatch(text)
    if match is None:
        return text
    return match["bare"] if match["fenced"] is None else match["fenced"]


def _describe(place: tuple[int | str, ...], message: str) -> str:
    where = ".".join(str(part) for part in place)
    return (f"{where}: {message}" if where else message)[:_MAX_CHARS]
