"""Configuration: one frozen dataclass per member; default < TOML < `--set key=value`."""

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from kg.errors import ConfigError, did_you_mean

C = TypeVar("C")


def build_config(cls: type[C], values: Mapping[str, Any], *, where: str = "") -> C:
    """Build a frozen config dataclass from plain values, each checked against its field's type.

    Args:
        cls: a dataclass; its `__post_init__` validates ranges.
        values: parameter name to value, as TOML or `parse_settings` gives it.
        where: where the values came from, named in errors.

    Returns:
        An instance of `cls`.

    Raises:
        ConfigError: for an unknown name (with a suggestion), a wrong type or a value out of range.
    """
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    place = f" in {where}" if where else ""
    for key in values:
        if key not in fields:
            msg = f"unknown parameter `{key}`{place}; {did_you_mean(key, fields)}"
            raise ConfigError(msg)
    checked = {key: _coerce(value, hints[key], f"`{key}`{place}") for key, value in values.items()}
    missing = [n for n, f in fields.items() if n not in checked and _is_required(f)]
    if missing:
        msg = f"missing parameter `{missing[0]}`{place}; it has no default, give it a value"
        raise ConfigError(msg)
    return cls(**checked)


def config_dict(config: Any) -> dict[str, Any]:
    """Return a config as plain JSON values, for manifests and results."""
    return {k: _plain(v) for k, v in dataclasses.asdict(config).items()}


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Parse `key=value` strings of a command line; values are TOML, a bare word is a string.

    Example:
        >>> parse_settings(["dim=32", "name=lightgcn"])
        {'dim': 32, 'name': 'lightgcn'}

    Raises:
        ConfigError: if a setting has no `=`.
    """
    parsed: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            msg = f"setting `{setting}` is not of the form key=value; write e.g. `--set epochs=20`"
            raise ConfigError(msg)
        parsed[key.strip()] = _toml_value(text.strip())
    return parsed


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: if it is absent, not UTF-8 or not TOML; the text names the line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        msg = f"`{path}` does not exist; give the path of a TOML file"
        raise ConfigError(msg) from error
    except OSError as error:
        msg = f"`{path}` cannot be read: {error.strerror or error}; give the path of a TOML file"
        raise ConfigError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"`{path}` is not UTF-8 (byte {error.start}); save it as UTF-8"
        raise ConfigError(msg) from error
    except tomllib.TOMLDecodeError as error:
        msg = f"`{path}` is not valid TOML: {error}; correct that line"
        raise ConfigError(msg) from error


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def _coerce(value: Any, hint: Any, what: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _coerce_union(value, args, what)
    if origin is typing.Literal:
        if value in args:
            return value
        msg = f"{what} is `{value}`; {did_you_mean(str(value), [str(a) for a in args])}"
        raise ConfigError(msg)
    if hint is Any:
        return value
    if origin is not None:
        return _coerce_container(value, origin, args, what)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        msg = f"{what} is `{value}` ({type(value).__name__}); expected {hint.__name__}"
        raise ConfigError(msg)
    return value


def _coerce_container(value: Any, origin: Any, args: Sequence[Any], what: str) -> Any:
    is_sequence = issubclass(origin, (tuple, list))
    if not isinstance(value, (list, tuple) if is_sequence else Mapping):
        expected = "a list, e.g. `[1, 2]`" if is_sequence else "a table, e.g. `{ a = 1 }`"
        msg = f"{what} is `{value}` ({type(value).__name__}); expected {expected}"
        raise ConfigError(msg)
    if isinstance(value, Mapping):
        return {key: _coerce(v, args[1], f"{what}, key `{key}`") for key, v in value.items()}
    if origin is tuple and args[-1] is not Ellipsis and len(value) != len(args):
        msg = f"{what} is `{value}`; expected {len(args)} values"
        raise ConfigError(msg)
    hints = args if origin is tuple and args[-1] is not Ellipsis else [args[0]] * len(value)
    return origin(_coerce(v, hint, what) for v, hint in zip(value, hints, strict=True))


def _coerce_union(value: Any, options: Sequence[Any], what: str) -> Any:
    if value is None and type(None) in options:
        return None
    options = [o for o in options if o is not type(None)]
    for option in options[:-1]:
        try:
            return _coerce(value, option, what)
        except ConfigError:
            continue
    return _coerce(value, options[-1], what)
