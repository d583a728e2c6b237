"""Options that all commands share which ask an LLM, or say what would be asked."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from kg.config import build_config, parse_settings
from kglift.cli.options import GraphDir, Set
from kglift.plan import Asking, ExtractPlan, LlmPlan

UNITS_SET_ASIDE = 3
"""The exit status of a command that did its work, without the units that no model answered validly."""
LEDGER = Path("ledger.sqlite")
_RAY = "ray"
LedgerFile = Annotated[
    Path, typer.Option("--ledger", help="Where replies are kept; none is paid for twice.", show_default=True)
]
MethodName = Annotated[str, typer.Option("--method", "-m", help="A member of extract.methods.")]
ProviderName = Annotated[str, typer.Option("--provider", help="auto, local, openai_api, replay.")]
Engine = Annotated[
    list[str] | None,
    typer.Option(
        "--engine",
        metavar="KEY=VALUE|ray",
        help="Limits and prices: max_units, budget_tokens, budget_cost with prompt_price and completion_price of a "
        "million tokens (budgets are for all that the ledger pays the model), ...; ray: on Ray.",
    ),
]
Llm = Annotated[list[str] | None, typer.Option("--llm", metavar="KEY=VALUE", help="Set up the provider.")]


def asks(command: Callable[..., None], provider: str = "") -> Callable[..., None]:
    """Give a command the arguments that say what is asked and by whom; it gets them first, as an `Asking`.

    Args:
        command: takes an `Asking` and arguments of its own.
        provider: who answers; empty: that is an option.
    """
    own = list(inspect.signature(command).parameters.values())[1:]
    shared = list(inspect.signature(_asking).parameters.values())
    shared = [one for one in shared if not provider or one.name != "provider"]

    @wraps(command)
    def wrapped(**values: Any) -> None:
        given: dict[str, Any] = {"provider": provider} if provider else {}
        given |= {one.name: values.pop(one.name) for one in shared}
        command(_asking(**given), **values)

    parameters = sorted([*shared, *own], key=lambda one: one.default is not one.empty)
    told: Any = wrapped
    told.__signature__ = inspect.Signature(parameters)  # this is where typer reads the options
    told.__annotations__ = {}
    return wrapped


def _asking(
    directory: GraphDir,
    method: MethodName = "item_facts",
    provider: ProviderName = "auto",
    ledger: LedgerFile = LEDGER,
    settings: Set = None,
    engine: Engine = None,
    llm: Llm = None,
) -> Asking:
    """Read the options."""
    from extract.engine import EngineConfig

    limits = parse_settings([one for one in engine or [] if one != _RAY])
    return Asking(
        directory,
        ExtractPlan(method, parse_settings(settings or [])),
        LlmPlan(provider, parse_settings(llm or [])),
        build_config(EngineConfig, limits, where="--engine"),
        ledger,
        on_ray=_RAY in (engine or []),
    )
