"""Scale-out: any provider on Ray workers, in front of the same engine and ledger."""

import asyncio
from collections.abc import Callable
from typing import Any

from extract.errors import ExtractError, PassingProviderError, TerminalProviderError
from extract.provider import Completion, Provider, Request


class OnRay(Provider):
    """Answers requests on the workers of a Ray cluster, each of which opens a provider of its own.

    Only the answering is spread: claims, replies, budgets and limits stay with the one engine, so a run on Ray asks and
    keeps what a run without asks and keeps. A worker that dies is replaced and its requests are sent again.

    Limits: workers on other machines need kglift, the model's file and the key's environment variable there. The
    cluster is the one that RAY_ADDRESS names, else one is started on this machine.

    Args:
        make: opens the provider; runs on every worker, and once here for its identity.
        n_workers: how many; None: one for each core of the cluster.
        n_cpus: cores that each worker reserves.

    Raises:
        TerminalProviderError: if Ray is not installed or does not start.
    """

    def __init__(self, make: Callable[[], Provider], n_workers: int | None = None, n_cpus: float = 1.0) -> None:
        self._ray = _import_ray()
        self._make, self._n_cpus = make, n_cpus
        self._inner = make()
        super().__init__(self._inner.config)
        self._is_ours = not self._ray.is_initialized()
        if self._is_ours:
            _start_ray(self._ray)
        self._n_workers = n_workers or max(1, int(self._ray.cluster_resources().get("CPU", 1) / n_cpus))
        self._under_way: dict[Any, int] = {}

    @property
    def model(self) -> str:
        """Identity of the model: that of the provider on the workers."""
        return self._inner.model

    @property
    def max_in_flight(self) -> int:
        """How many requests may be under way at once, on all workers."""
        return self._n_workers * self._inner.max_in_flight

    async def complete(self, request: Request) -> Completion:
        """Answer one request on the worker that has the least to do.

        Raises:
            TerminalProviderError: as the provider says.
            PassingProviderError: as the provider says, or if the worker died; another one has its place then.
            UnitError: as the provider says.
        """
        while len(self._under_way) < self._n_workers:
            self._under_way[self._start()] = 0
        worker = min(self._under_way, key=self._under_way.__getitem__)
        self._under_way[worker] += 1
        try:
            return await worker.complete.remote(request)  # type: ignore[no-any-return]
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ExtractError):
                raise error.cause from error
            raise
        except self._ray.exceptions.RayActorError as error:
            self._under_way.pop(worker, None)
            msg = f"a Ray worker died while it answered unit `{request.unit_id}`; another one takes its place"
            raise PassingProviderError(msg, may_be_paid=True) from error
        finally:
            if worker in self._under_way:
                self._under_way[worker] -= 1

    async def close(self) -> None:
        """Close the providers and let the workers go; the next request starts new ones."""
        workers, self._under_way = list(self._under_way), {}
        await asyncio.gather(*(worker.close.remote() for worker in workers), return_exceptions=True)
        for worker in workers:
            self._ray.kill(worker)
        await self._inner.close()

    def shut_down(self) -> None:
        """Stop the cluster if this provider started it."""
        if self._is_ours:
            self._ray.shutdown()

    def _start(self) -> Any:
        options = {"num_cpus": self._n_cpus, "max_concurrency": self._inner.max_in_flight + 1}
        return self._ray.remote(_Worker).options(**options).remote(self._make)


class _Worker:
    """Answers on a worker, with a provider of its own."""

    def __init__(self, make: Callable[[], Provider]) -> None:
        self._provider = make()

    async def complete(self, request: Request) -> Completion:
        return await self._provider.complete(request)

    async def close(self) -> None:
        await self._provider.close()


def _start_ray(ray: Any) -> None:
    """Start a cluster on this machine; on a busy one Ray gives up after 30 s, and so gets a second try."""
    for tries_left in (1, 0):
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        except Exception as error:
            ray.shutdown()
            if not tries_left:
                msg = f"Ray does not start, or is not where RAY_ADDRESS says: {error}; see what `ray start --head` says"
                raise TerminalProviderError(msg) from error
        else:
            return


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ModuleNotFoundError as error:
        msg = "Ray is not installed, and `--engine ray` needs it; install it with `pip install kglift[ray]`"
        raise TerminalProviderError(msg) from error
    return ray
