"""The contract of a provider: one request in, one completion out."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from kg.registry import Registered


class Request(NamedTuple):
    """What is sent to a model.

    Attributes:
        system: the instruction.
        prompt: the filled template.
        schema: JSON schema of the reply; enforced by the provider where it can.
        max_tokens: upper bound of the reply.
        temperature: 0 = greedy.
        seed: passed on where the provider takes one.
        unit_id: whom the question is about, for logs and recorded answers; never sent, no part of any key.
    """

    system: str
    prompt: str
    schema: Mapping[str, Any]
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    unit_id: str = ""


class Completion(NamedTuple):
    """What came back.

    Attributes:
        text: the reply, as it came.
        n_prompt_tokens: tokens read.
        n_completion_tokens: tokens written.
        is_cut_off: the reply ended at `max_tokens`, not by itself; such a reply is never repaired.
        is_estimated: nobody said how many tokens; they are estimated from the length.
    """

    text: str
    n_prompt_tokens: int
    n_completion_tokens: int
    is_cut_off: bool = False
    is_estimated: bool = False


class Provider(Registered, package="extract.providers"):
    """A place that answers requests. It makes no retries of its own: the engine does."""

    Config: ClassVar[type[Any]]

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    @abstractmethod
    def model(self) -> str:
        """Identity of the model; part of every cache key."""

    @property
    def max_in_flight(self) -> int:
        """How many requests may be under way at once."""
        return 1

    @abstractmethod
    async def complete(self, request: Request) -> Completion:
        """Answer one request.

        Raises:
            TerminalProviderError: asking again cannot help.
            PassingProviderError: asking again may help; carries the server's Retry-After.
        """

    async def close(self) -> None:
        """Release connections, processes and memory; the next `complete` opens them anew.

        The engine calls this at the end of each run, in the run's event loop.
        """
