"""The sources of one reply: the reply itself, and one more for each quote that its facts claim."""

import hashlib
from collections.abc import Mapping
from typing import Any

from extract.method import Unit

Row = dict[str, Any]


class ReplySources:
    """Gives rows their source; a row with a `quote` gets one of its own, if a text of the unit has these words.

    Texts are the variables of the unit that are strings; case and white space do not count.

    Args:
        reply: row of `sources` for the reply.
        unit: what was shown.

    Attributes:
        rows: rows of `sources` by their ids, the reply's first.
    """

    def __init__(self, reply: Row, unit: Unit) -> None:
        self.rows: dict[str, Row] = {reply["source"]: reply}
        self._reply = reply
        self._texts = [_plain(value) for value in unit.variables.values() if isinstance(value, str)]

    def cite(self, row: Mapping[str, Any]) -> Row | None:
        """Return a row with its source; None where it claims a quote that is in no text."""
        quote = row.get("quote")
        if quote is None:
            return {"source": self._reply["source"], **row}
        words = _plain(quote)
        if not words or not any(words in text for text in self._texts):
            return None
        sha = hashlib.sha256(f"{self._reply['source']}\0{words}".encode()).hexdigest()[:16]
        source = f"llm:{sha}"
        self.rows.setdefault(source, {**self._reply, "source": source, "quote": " ".join(quote.split())})
        return {"source": source, **{column: value for column, value in row.items() if column != "quote"}}


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
