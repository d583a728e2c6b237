"""Options that all commands share which ask an LLM."""

from typing import Annotated, Any

import typer

from kg.config import build_config, parse_settings

UNITS_SET_ASIDE = 3
"""The exit status of a command that did its work, without the units that no model answered validly."""
_RAY = "ray"
MethodName = Annotated[str, typer.Option("--method", "-m", help="A member of extract.methods.")]
ProviderName = Annotated[str, typer.Option("--provider", help="auto, local, openai_api, replay.")]
Engine = Annotated[
    list[str] | None,
    typer.Option("--engine", metavar="KEY=VALUE|ray", help="Limits: max_units, budget_tokens, ...; ray: on Ray."),
]
Llm = Annotated[list[str] | None, typer.Option("--llm", metavar="KEY=VALUE", help="Set up the provider.")]


def limits(engine: list[str] | None) -> Any:
    """Return the engine's configuration of the command line."""
    from extract.engine import EngineConfig

    return build_config(EngineConfig, parse_settings([one for one in engine or [] if one != _RAY]), where="--engine")


def is_on_ray(engine: list[str] | None) -> bool:
    """Say whether `--engine ray` was given."""
    return _RAY in (engine or [])
