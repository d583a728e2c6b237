"""Text of items and users on its way into a prompt: it is data, never an instruction.

Hidden characters go, white space becomes single blanks, the length is bounded, and the angle brackets that prompts use
as delimiters (and chat templates use for their control words) become look-alikes. So a text cannot close the tag it
stands in, start a line of its own, or hide words from a human reader. What it *says* can still mislead a model: replies
are therefore validated against an allow-list of relations, and nothing that a reply says is ever executed.
"""

import unicodedata

MAX_CHARS = 600

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_BRACKETS = str.maketrans({"<": "‹", ">": "›", "＜": "‹", "＞": "›", "﹤": "‹", "﹥": "›"})  # noqa: RUF001
_INVISIBLE = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5")
_ELLIPSIS = "…"


def clean(text: str | None, max_chars: int = MAX_CHARS) -> str:
    r"""Make a text safe to stand between the delimiters of a prompt.

    Limits: characters of the Unicode categories control, format (zero-width, bidirectional, tags), surrogate, private
    use and unassigned are removed, as are fillers that draw nothing; this joins emoji sequences apart and drops
    the joiners of some scripts, which changes their look, not their letters.

    Args:
        text: any string; None is the empty text.
        max_chars: upper bound of the length; a longer text ends in an ellipsis.

    Returns:
        One line without `<`, `>` or hidden characters.

    Example:
        >>> clean("Heat\u200b\n  (1995)")
        'Heat (1995)'
    """
    if not text:
        return ""
    # The bound comes first where the text is huge: nothing beyond it can be shown anyway.
    text = text[: 16 * max_chars]
    visible = text if text.isascii() and text.isprintable() else _without_hidden(text)
    line = " ".join(visible.translate(_BRACKETS).split())
    return line if len(line) <= max_chars else line[: max_chars - 1].rstrip() + _ELLIPSIS


def _without_hidden(text: str) -> str:
    spaced = (" " if c.isspace() else c for c in text)
    return "".join(c for c in spaced if unicodedata.category(c) not in _HIDDEN and not _is_invisible(c))


def _is_invisible(char: str) -> bool:
    return char in _INVISIBLE or "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"
