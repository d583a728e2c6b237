"""Every registered extraction method runs the contract, and is documented by a golden prompt."""

import json
from pathlib import Path

import pytest

from extract.method import Method
from extract.template import load_prompt
from tests.contracts.method import MethodContract
from tests.toy import toy_graph

_GOLDENS = Path(__file__).parent.parent / "goldens" / "prompts"
_PROMPTS = sorted(p.name.removesuffix(".md") for p in (Path(__file__).parents[2] / "extract" / "prompts").glob("*.md"))


@pytest.mark.parametrize("method_class", Method.members().values(), ids=Method.members())
class TestMethods(MethodContract):
    @pytest.fixture(autouse=True)
    def _choose(self, method_class: type[Method]) -> None:
        self.method_class = method_class


@pytest.mark.parametrize("stem", _PROMPTS)
def test_a_released_prompt_does_not_change(stem: str) -> None:
    """A changed wording needs a new version: answers that were paid for are kept under the old one."""
    prompt = load_prompt(stem)
    unit = json.loads((_GOLDENS / f"{stem}.json").read_text(encoding="utf-8"))
    golden = (_GOLDENS / f"{stem}.txt").read_text(encoding="utf-8")
    assert f"{prompt.system}\n----\n{prompt.render(unit)}\n" == golden


def test_each_method_asks_with_a_prompt_that_exists() -> None:
    assert {m.prompt for m in Method.members().values()} <= set(_PROMPTS)


def test_the_toy_graph_gives_units_to_every_method() -> None:
    assert {u.unit_id for u in Method.find("item_facts")(Method.find("item_facts").Config()).units(toy_graph())} == {
        f"item:{n}" for n in range(1, 9)
    }
