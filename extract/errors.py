"""Errors of `extract`.

ExtractError
├── PromptError (ValueError)         a prompt file is absent, or its variables do not fit the unit
├── UnitError (ValueError)           a unit cannot be asked: empty, or larger than the context
│   └── RefusedUnitError             a server's filter does not let its text pass
├── LedgerError (ValueError)         the ledger is damaged, of another version, or in use
├── ExtractorMissingError (ImportError)  an optional library or model is not installed
├── BudgetError (ValueError)         the budget is spent; everything answered so far is kept
└── ProviderError (ConnectionError)
    ├── TerminalProviderError        asking again cannot help: key, quota, unknown model, bad request
    └── PassingProviderError         asking again may help: rate limit, time-out, server error

Those that set a unit aside have a `reason`, the code under which they are counted.
"""


class ExtractError(Exception):
    """Base of every error that `extract` raises on purpose."""


class PromptError(ExtractError, ValueError):
    """A prompt file is absent, or its variables do not fit the unit."""


class UnitError(ExtractError, ValueError):
    """A unit cannot be asked: it is empty or larger than the context."""

    reason = "too_large"


class RefusedUnitError(UnitError):
    """A server's filter does not let a unit's text pass; others it takes."""

    reason = "filtered"


class LedgerError(ExtractError, ValueError):
    """The ledger is damaged, of another version, or in use."""


class BudgetError(ExtractError, ValueError):
    """The budget is spent; everything answered so far is kept."""


class ExtractorMissingError(ExtractError, ImportError):
    """An optional library or model is not installed."""


class ProviderError(ExtractError, ConnectionError):
    """A provider did not answer."""


class TerminalProviderError(ProviderError):
    """Asking again cannot help: wrong key, no quota, unknown model, bad request."""


class PassingProviderError(ProviderError):
    """Asking again may help: rate limit, time-out, reset, server error.

    Args:
        message: what is wrong.
        retry_after_s: how long the server asks to wait.
        may_be_paid: the request was sent and not refused: the server may have answered it, and charge for it.
    """

    reason = "no_answer"

    def __init__(self, message: str, retry_after_s: float | None = None, *, may_be_paid: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.may_be_paid = may_be_paid
