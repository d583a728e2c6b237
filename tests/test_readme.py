"""The README tells the truth: its table of members is generated, its commands exist, its paths are there."""

import re
from pathlib import Path

import pytest

from kglift.cli import main
from kglift.members import FAMILIES, markdown_table

_ROOT = Path(__file__).parent.parent
_README = (_ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_of_members_is_the_generated_one() -> None:
    assert markdown_table() in _README, "paste what `kglift members --markdown` prints"


def test_every_family_has_members() -> None:
    assert all(family.members() for family in FAMILIES.values())


def test_every_command_in_it_exists(capsys: pytest.CaptureFixture[str]) -> None:
    commands = set(re.findall(r"^(?:\.venv/bin/)?kglift ((?:data )?[a-z]+)", _README, re.MULTILINE))
    assert {"data read", "explain", "query", "run"} <= commands
    for command in commands:
        with pytest.raises(SystemExit) as stopped:
            main([*command.split(), "--help"])
        assert stopped.value.code == 0
        assert "Example:" in capsys.readouterr().out


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#]+)\)", _README))
def test_every_link_leads_somewhere(target: str) -> None:
    assert (_ROOT / target).exists()
