"""Prompt files: loaded by stem, filled strictly, identified by version and hash."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from extract.errors import PromptError
from kg.errors import did_you_mean, first_five

_STEM = re.compile(r"(?P<name>[a-z][a-z0-9_]*)\.(?P<version>v[1-9][0-9]*)")
_PARTS = re.compile(r"\A# system\n(?P<system>.+?)\n# user\n(?P<user>.+)\Z", re.DOTALL)


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, which takes a part of a JSON object without looking for an attribute of the object first."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        return obj[attribute] if type(obj) is dict and attribute in obj else super().getattr(obj, attribute)


_JINJA = _Environment(
    undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=False
)
_JINJA.globals.clear()  # a prompt uses its variables only; Jinja would copy its own at every render


@cache
def _compile(template: str) -> Template:
    return _JINJA.from_string(template)


@dataclass(frozen=True)
class Prompt:
    """One version of one prompt.

    Attributes:
        name: what it asks for, e.g. `item_facts`.
        version: `v1`, `v2`, ...; a changed wording is a new version, so recorded answers keep their question.
        system: the instruction, the same for every unit.
        template: the Jinja2 template of the question.
        sha: sha256 of the file, part of every cache key.
        variables: the names that the template uses.
    """

    name: str
    version: str
    system: str
    template: str
    sha: str
    variables: frozenset[str]

    def render(self, variables: Mapping[str, Any]) -> str:
        """Fill the template.

        Args:
            variables: exactly the names that the template uses.

        Returns:
            The question, without white space at its ends.

        Raises:
            PromptError: if a variable is missing or unknown, or the template fails on its value.
        """
        self._check(variables)
        try:
            return _compile(self.template).render(variables).strip()
        except (TemplateError, TypeError, AttributeError, LookupError) as error:
            msg = (
                f"prompt `{self.name}.{self.version}` fails on this unit: {error}; "
                "correct the method's variables, or write the next version of the prompt"
            )
            raise PromptError(msg) from error

    def _check(self, variables: Mapping[str, Any]) -> None:
        if variables.keys() == self.variables:
            return
        missing = sorted(self.variables - variables.keys())
        unknown = sorted(variables.keys() - self.variables)
        if missing:
            msg = (
                f"prompt `{self.name}.{self.version}` needs the variable {first_five(missing)}, got "
                f"{', '.join(sorted(variables)) or 'none'}; add it to the unit"
            )
            raise PromptError(msg)
        if unknown:
            msg = (
                f"prompt `{self.name}.{self.version}` does not use the variable {first_five(unknown)}; "
                f"{did_you_mean(unknown[0], self.variables)} Take it out of the unit"
            )
            raise PromptError(msg)


@cache
def load_prompt(stem: str) -> Prompt:
    """Load `extract/prompts/STEM.md`: a part under `# system`, then a Jinja2 template under `# user`.

    Args:
        stem: name and version, e.g. `item_facts.v1`.

    Raises:
        PromptError: if the stem is none, or the file is absent, lacks a part, or is no template.
    """
    match = _STEM.fullmatch(stem)
    if match is None:
        msg = f"`{stem}` is no prompt; expected a name and a version, e.g. `item_facts.v1`"
        raise PromptError(msg)
    folder = files("extract.prompts")
    try:
        text = (folder / f"{stem}.md").read_text(encoding="utf-8")
    except FileNotFoundError as error:
        known = [p.name.removesuffix(".md") for p in folder.iterdir() if p.name.endswith(".md")]
        msg = f"there is no prompt `{stem}`; {did_you_mean(stem, known)}"
        raise PromptError(msg) from error
    return parse_prompt(match["name"], match["version"], text)


def parse_prompt(name: str, version: str, text: str) -> Prompt:
    """Build a prompt from the text of its file.

    Raises:
        PromptError: if a part is missing, or the template is malformed.
    """
    parts = _PARTS.match(text)
    if parts is None:
        msg = f"prompt `{name}.{version}` lacks a part; write `# system` and its text, then `# user` and its template"
        raise PromptError(msg)
    template = parts["user"].strip()
    try:
        used = frozenset(meta.find_undeclared_variables(_JINJA.parse(template)))
    except TemplateError as error:
        msg = f"prompt `{name}.{version}` is no template: {error}; correct that line"
        raise PromptError(msg) from error
    sha = hashlib.sha256(text.encode("utf-8")).hexdigest()
    return Prompt(name, version, parts["system"].strip(), template, sha, used)
