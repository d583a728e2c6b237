"""How the engine asks: how often, how fast, for how much."""

from dataclasses import dataclass

from kg.errors import ConfigError

_ABOVE_ZERO = (
    *("max_attempts", "max_tokens", "max_in_flight", "requests_per_minute", "tokens_per_minute", "timeout_s"),
    "give_up_after",
)
_FROM_ZERO = (
    *("max_units", "temperature", "max_retries", "budget_tokens", "budget_cost", "prompt_price", "completion_price"),
)


@dataclass(frozen=True)
class EngineConfig:
    """How to ask.

    Attributes:
        max_units: ask the first so many units only; None = all.
        max_attempts: replies asked for, valid or not, before a unit is set aside.
        give_up_after: so many units in a row that are set aside for invalid replies, with no valid one between, end the
            run: something is wrong with the endpoint, the model or the prompt. Every reply is kept. The default is far
            beyond what a weak model comes to by chance.
        max_tokens: upper bound of a reply.
        temperature: 0 = greedy.
        seed: passed on where the provider takes one.
        max_in_flight: requests under way at once; None, or more than the provider allows = what it allows.
        max_retries: so often a request is sent again after a passing error (rate limit, time-out, server error).
        requests_per_minute: None = no limit.
        tokens_per_minute: None = no limit.
        budget_tokens: hard limit on the tokens for which the ledger pays the model, counted over all methods, runs and
            processes that share the ledger, from its first reply on; None = no limit.
        budget_cost: the same in money, in the currency of the prices.
        prompt_price: of a million prompt tokens.
        completion_price: of a million completion tokens.
        timeout_s: longest wait for one reply.

    Raises:
        ConfigError: if a value is out of range, or a cost has a limit but no price.
    """

    max_units: int | None = None
    max_attempts: int = 3
    give_up_after: int = 50
    max_tokens: int = 1024
    temperature: float = 0.0
    seed: int = 0
    max_in_flight: int | None = None
    max_retries: int = 5
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    budget_tokens: int | None = None
    budget_cost: float | None = None
    prompt_price: float = 0.0
    completion_price: float = 0.0
    timeout_s: float = 300.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in _ABOVE_ZERO:
            value = getattr(self, name)
            if value is not None and not value > 0:
                msg = f"`{name}` is {value}; expected more than 0"
                raise ConfigError(msg)
        for name in _FROM_ZERO:
            value = getattr(self, name)
            if value is not None and not value >= 0:
                msg = f"`{name}` is {value}; expected 0 or more"
                raise ConfigError(msg)
        if self.budget_cost is not None and not self.prompt_price + self.completion_price:
            msg = (
                f"`budget_cost` is {self.budget_cost:g}, but nothing has a price; give `prompt_price` and "
                "`completion_price`, of a million tokens"
            )
            raise ConfigError(msg)

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return what tokens cost, in the currency of the prices."""
        return (prompt_tokens * self.prompt_price + completion_tokens * self.completion_price) / 1_000_000
