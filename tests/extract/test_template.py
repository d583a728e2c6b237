import pytest

from extract.errors import PromptError
from extract.template import load_prompt, parse_prompt

_TEXT = "# system\nBe brief.\n# user\nName: {{ name }}{% if note %} ({{ note }}){% endif %}\n"


def test_a_prompt_renders_its_variables() -> None:
    prompt = parse_prompt("greet", "v1", _TEXT)
    assert prompt.system == "Be brief."
    assert prompt.variables == {"name", "note"}
    assert prompt.render({"name": "{{ 7 * 7 }}", "note": ""}) == "Name: {{ 7 * 7 }}"


def test_the_hash_follows_the_wording() -> None:
    assert parse_prompt("greet", "v1", _TEXT).sha != parse_prompt("greet", "v1", _TEXT + "!").sha


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"name": "x"}, "needs the variable `note`, got name; add it"),
        ({"name": "x", "note": "", "nmae": 1}, "does not use the variable `nmae`; did you mean `name`"),
    ],
)
def test_variables_must_fit(variables: dict[str, object], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        parse_prompt("greet", "v1", _TEXT).render(variables)


@pytest.mark.parametrize(
    "expression", ["{{ name.__class__.__mro__ }}", "{{ name.nothing.more }}", "{{ name + 1 }}", "{{ name.append(1) }}"]
)
def test_a_template_that_reaches_outside_its_values_fails(expression: str) -> None:
    with pytest.raises(PromptError, match=r"prompt `greet.v1` fails on this unit"):
        parse_prompt("greet", "v1", f"# system\nx\n# user\n{expression}").render({"name": ["x"]})


@pytest.mark.parametrize(
    ("stem", "message"),
    [
        ("item_fact.v1", "there is no prompt `item_fact.v1`; did you mean `item_facts.v1`"),
        ("item_facts", "`item_facts` is no prompt; expected a name and a version"),
        ("../../pyproject.v1", "is no prompt"),
    ],
)
def test_an_unknown_prompt_is_named(stem: str, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        load_prompt(stem)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Just text.", "lacks a part; write `# system`"),
        ("# system\nonly", "lacks a part"),
        ("# system\nx\n# user\n{% if %}", "is no template: .*correct that line"),
        ("# system\nx\n# user\n{{ unclosed", "is no template"),
    ],
)
def test_a_malformed_file_is_refused(text: str, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        parse_prompt("greet", "v1", text)
