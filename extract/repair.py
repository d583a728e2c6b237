"""The last resort for a reply that was refused each time: small slips of its form are mended, its content never."""

import ast
import json
import re

_STRING_OR_COMMA = re.compile(r'("(?:[^"\\]|\\.)*(?:"|\Z))|,\s*(?=[}\]])', re.DOTALL)
_MAX_CHARS = 100_000


def repair(text: str) -> str | None:
    """Mend a reply that is not JSON: words around it, a comma before a closing bracket, Python's own notation.

    No bracket is ever added: a reply that lacks one lacks its end, and what the end said is not known.

    Args:
        text: the reply, not cut off.

    Returns:
        JSON text; None where the reply is beyond these slips.
    """
    body = text[text.find("{") : text.rfind("}") + 1]
    is_whole = body.count("{") == body.count("}") and body.count("[") == body.count("]")
    if not body or not is_whole or len(body) > _MAX_CHARS:
        return None
    try:
        return json.dumps(json.loads(_STRING_OR_COMMA.sub(r"\1", body)))
    except (ValueError, RecursionError):
        pass
    try:
        return json.dumps(ast.literal_eval(body))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
