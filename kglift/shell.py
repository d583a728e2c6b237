"""`kglift shell`: ask one store again and again, with history, completion and statements of several lines."""

import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import platformdirs
import pyarrow as pa
from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import Completer, WordCompleter
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, History
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import Output

from db import load_query, saved_queries
from db.model import LABELS, STRUCTURE, label_of, relationship_type_of
from db.store import GraphStore
from kglift.errors import EXPECTED_ERRORS, SettingError
from kglift.stores import read_parameters

_KEYWORDS: Final = (
    "MATCH OPTIONAL WHERE RETURN WITH UNWIND UNION ALL ORDER BY DESC SKIP LIMIT DISTINCT AS AND OR NOT IN IS NULL "
    "CASE WHEN THEN ELSE END EXISTS COUNT COLLECT STARTS ENDS CONTAINS CREATE MERGE SET DELETE DETACH REMOVE CALL "
    "YIELD count collect sum avg min max size coalesce labels type nodes relationships length toLower toString"
)
_PIECES: Final = re.compile(
    r"//[^\n]*|/\*.*?(?:\*/|\Z)|'(?:\\.|[^'\\])*(?:'|\Z)|\"(?:\\.|[^\"\\])*(?:\"|\Z)|`[^`]*(?:`|\Z)|;|[^;'\"`/]+|/",
    re.DOTALL,
)
_HELP: Final = """\
A statement ends with `;` and may have several lines.
The name of a saved query runs it, e.g.: facts_of_entity entity_id=item:5;
:queries         the saved queries and their parameters
:param n=5       set a parameter that statements use as $n; alone it shows all
:schema          entity types and relations with their numbers
:help  :quit     (or Ctrl-D); Tab completes, the arrows go back"""
_TYPES: Final = "MATCH (e:Entity) RETURN e.type AS name, count(*) AS n ORDER BY n DESC, name"
_RELATIONS: Final = (
    "MATCH (:Entity)-[f]->(:Entity) WHERE f.relation IS NOT NULL "
    "RETURN f.relation AS name, count(*) AS n ORDER BY n DESC, name"
)


def split_statements(text: str) -> tuple[list[str], str]:
    r"""Split at each `;` that is in no quotes and no comment; comments are left out.

    Returns:
        The statements that are complete, and what follows the last `;` as it was written; nothing if that is blank
        or a comment that is closed.

    Example:
        >>> split_statements("RETURN ';' AS a; // b;\nRETURN 2")
        (["RETURN ';' AS a"], 'RETURN 2')
    """
    statements, current, begun, is_open = [], "", 0, False
    for found in _PIECES.finditer(text):
        piece = found[0]
        if piece == ";":
            statements.append(current.strip())
            current, begun = "", found.end()
        elif piece.startswith(("//", "/*")):
            current += " "
            is_open = piece.startswith("/*") and not (len(piece) > 3 and piece.endswith("*/"))
        else:
            current += piece
    return [s for s in statements if s], text[begun:].lstrip() if current.strip() or is_open else ""


@dataclass
class Shell:
    """One sitting with a store: its parameters, and what to do with a line.

    Attributes:
        store: what is asked.
        show: draws a table.
        say: prints a line.
        timeout_s: when a query is stopped.
        max_rows: how many rows a query fetches at most.
        write: queries may change the store.
        parameters: what `:param` set.
    """

    store: GraphStore
    show: Callable[[pa.Table], None]
    say: Callable[[str], None]
    timeout_s: float = 60.0
    max_rows: int = 1_000
    write: bool = False
    parameters: dict[str, Any] = field(default_factory=dict)

    def run(self, text: str) -> None:
        """Run a statement or a `:command`.

        Raises:
            SettingError: for an unknown command.
            QueryError: as `GraphStore.query`.
        """
        if not text.startswith(":"):
            self._ask(text)
            return
        command, _, rest = text[1:].partition(" ")
        match command:
            case "queries":
                self.show(pa.table({"name": list(saved_queries()), "answers": list(saved_queries().values())}))
            case "param":
                self.parameters |= _settings(rest)
                self.say(", ".join(f"${name} = {value!r}" for name, value in self.parameters.items()) or "no parameter")
            case "schema":
                for statement in (_TYPES, _RELATIONS):
                    self.show(self.store.query(statement, timeout_s=self.timeout_s))
            case "help":
                self.say(_HELP)
            case _:
                msg = f"there is no command `:{command}`; there are :queries, :param, :schema, :help and :quit"
                raise SettingError(msg)

    def words(self) -> list[str]:
        """Return what completion offers: keywords, labels, types, relations, saved queries, commands."""
        found = [
            *_KEYWORDS.split(),
            *LABELS,
            *STRUCTURE,
            *saved_queries(),
            "queries",
            "param",
            "schema",
            "help",
            "quit",
        ]
        for statement, spelled in ((_TYPES, label_of), (_RELATIONS, relationship_type_of)):
            try:
                names = self.store.query(statement, timeout_s=5.0)["name"].to_pylist()
            except EXPECTED_ERRORS:
                continue  # a slow or an empty store completes what does not depend on it
            found += [word for name in names for word in (name, spelled(name))]
        return list(dict.fromkeys(found))

    def _ask(self, text: str) -> None:
        parameters = dict(self.parameters)
        name, *values = text.split(maxsplit=1)
        if name.isidentifier() and name in saved_queries():
            parameters |= _settings(" ".join(values))
            text = load_query(name)
        answer = self.store.query(
            text, parameters, timeout_s=self.timeout_s, max_rows=self.max_rows + 1, write=self.write
        )
        self.show(answer.slice(0, self.max_rows))
        more = " and there are more; add LIMIT, or use `kglift query --limit`" if len(answer) > self.max_rows else ""
        self.say(f"{min(len(answer), self.max_rows):,} rows{more}")


def converse(
    shell: Shell, *, history: History | None = None, source: Input | None = None, sink: Output | None = None
) -> None:
    """Read statements from a terminal until Ctrl-D or `:quit`; an error is said, and the sitting goes on.

    Args:
        shell: what answers.
        history: where lines are remembered; default: a file in the user's cache.
        source: keys from elsewhere than the terminal.
        sink: a screen elsewhere than the terminal.
    """
    prompt: PromptSession[str] = PromptSession(
        history=history or FileHistory(str(_history_file())),
        completer=completer_of(shell),
        complete_while_typing=False,
        complete_in_thread=False,
        multiline=True,
        key_bindings=_enter_at_the_end(),
        input=source,
        output=sink,
    )
    while True:
        try:
            text = prompt.prompt("kglift> ", prompt_continuation="      > ").strip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        if text in (":quit", ":exit"):
            return
        for statement in [text] if text.startswith(":") else split_statements(text)[0]:
            try:
                shell.run(statement)
            except EXPECTED_ERRORS as error:
                shell.say(f"error: {error}")
            except KeyboardInterrupt:
                shell.say("stopped")


def completer_of(shell: Shell) -> Completer:
    """Return what completes the word at the cursor; the store is asked for its words once, at the first Tab."""
    return WordCompleter(cache(shell.words), ignore_case=True, pattern=re.compile(r"[\w/]+"))


def run_script(shell: Shell, lines: Iterable[str]) -> None:
    """Run the statements and `:commands` of a file or a pipe, up to the first error.

    Raises:
        SettingError: for an unknown command, or if the last statement has no `;`.
        QueryError: as `GraphStore.query`.
    """
    rest = ""
    for line in lines:
        if not rest and line.startswith(":"):
            if line.strip() in (":quit", ":exit"):
                return
            shell.run(line.strip())
            continue
        statements, rest = split_statements(rest + line.removesuffix("\n") + "\n")
        for statement in statements:
            shell.run(statement)
    if rest:
        msg = f"the last statement has no `;` at its end, or an open quote or comment: {' '.join(rest.split())[:60]}"
        raise SettingError(msg)


def _settings(text: str) -> dict[str, Any]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        msg = f"`{text}` cannot be read: {error}; write e.g. name='two words' n=5"
        raise SettingError(msg) from error
    return read_parameters(words)


def _enter_at_the_end() -> KeyBindings:
    bindings = KeyBindings()

    @Condition
    def is_complete() -> bool:
        text = get_app().current_buffer.text.strip()
        return not text or text.startswith(":") or not split_statements(text)[1]

    @bindings.add("enter", filter=is_complete)
    def _accept(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    return bindings


def _history_file() -> Path:
    folder = Path(platformdirs.user_cache_dir("kglift"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "shell-history"
