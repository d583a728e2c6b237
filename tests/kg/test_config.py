import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from kg.config import build_config, config_dict, parse_settings, read_toml
from kg.errors import ConfigError


@dataclass(frozen=True)
class Example:
    dim: int
    rate: float = 0.1
    mode: Literal["fast", "slow"] = "fast"
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[str, int] = ("a", 1)
    path: Path | None = None
    either: int | str = 0
    weights: dict[str, float] = field(default_factory=dict)
    anything: Any = None
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.dim < 1:
            msg = f"dim is {self.dim}; expected at least 1"
            raise ConfigError(msg)


def test_values_are_checked_and_brought_to_their_types() -> None:
    values = {
        **{"dim": 8, "rate": 1, "mode": "slow", "sizes": [3], "pair": ["b", 2], "path": "x/y", "either": "z"},
        **{"weights": {"a": 1}, "anything": [1, {}], "names": ["n"]},
    }
    built = build_config(Example, values)
    assert built == Example(8, 1.0, "slow", (3,), ("b", 2), Path("x/y"), "z", {"a": 1.0}, [1, {}], ["n"])
    assert isinstance(built.rate, float)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"dim": 8, "rtae": 1}, "unknown parameter `rtae` in run.toml; did you mean `rate`"),
        ({}, "missing parameter `dim` in run.toml; it has no default"),
        ({"dim": "8"}, r"`dim` in run.toml is `8` .str.; expected int"),
        ({"dim": True}, r"`dim` in run.toml is `True` .bool.; expected int"),
        ({"dim": 8.5}, r"`dim` in run.toml is `8.5` .float.; expected int"),
        ({"dim": 8, "rate": "x"}, "expected float"),
        ({"dim": 8, "mode": "fats"}, "`mode` in run.toml is `fats`; did you mean `fast`"),
        ({"dim": 8, "sizes": 3}, r"`sizes` in run.toml is `3` .int.; expected a list"),
        ({"dim": 8, "sizes": "12"}, r"`sizes` in run.toml is `12` .str.; expected a list"),
        ({"dim": 8, "sizes": ["a"]}, r"`sizes` in run.toml is `a` .str.; expected int"),
        ({"dim": 8, "pair": ["a"]}, "`pair` in run.toml is .*; expected 2 values"),
        ({"dim": 8, "weights": [1]}, r"`weights` in run.toml is `.1.` .list.; expected a table"),
        ({"dim": 8, "weights": {"a": "b"}}, "`weights` in run.toml, key `a` is `b`"),
        ({"dim": 8, "either": [1]}, r"`either` in run.toml is `.1.` .list.; expected str"),
        ({"dim": 0}, "dim is 0; expected at least 1"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        build_config(Example, values, where="run.toml")


def test_an_optional_parameter_takes_nothing() -> None:
    assert build_config(Example, {"dim": 1, "path": None}).path is None


def test_a_config_is_written_as_plain_values_that_build_it_again() -> None:
    built = Example(8, sizes=(3, 4), path=Path("x"), weights={"a": 0.5})
    plain = json.loads(json.dumps(config_dict(built)))
    assert plain["sizes"] == [3, 4]
    assert plain["path"] == "x"
    assert build_config(Example, plain) == built


def test_settings_of_a_command_line_are_toml_or_bare_words() -> None:
    given = ["a=1", "b = [1, 2]", "c=light", "d=true", 'e="1"', "f=x=y", "g="]
    assert parse_settings(given) == {"a": 1, "b": [1, 2], "c": "light", "d": True, "e": "1", "f": "x=y", "g": ""}


@pytest.mark.parametrize("setting", ["epochs", "=3", " = 3"])
def test_a_setting_without_key_or_value_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=f"setting `{setting}` is not of the form key=value"):
        parse_settings([setting])


def test_a_toml_file_is_read_or_its_fault_named(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('name = "夜"', encoding="utf-8")
    assert read_toml(file) == {"name": "夜"}
    file.write_text("a = 1\nb = = 2")
    with pytest.raises(ConfigError, match="run.toml` is not valid TOML: .*line 2"):
        read_toml(file)
    file.write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match="run.toml` is not UTF-8 .byte 5.; save it as UTF-8"):
        read_toml(file)
    with pytest.raises(ConfigError, match="absent.toml` does not exist"):
        read_toml(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_toml(tmp_path)
