"""Asking an LLM on behalf of a command or a stage: method and provider by name."""

from collections.abc import Callable
from functools import partial

from extract.batch import Batch
from extract.engine import Extraction
from extract.estimate import Estimate, estimate
from extract.method import Method
from extract.on_ray import OnRay
from extract.providers.openai_api import OpenAIAPI
from extract.steps import extract_steps
from kg.check import assert_no_leak
from kg.config import build_config
from kg.files import read_graph
from kg.graph import Graph
from kg.progress import Progress
from kglift.errors import SettingError
from kglift.fusing import sentence_encoder
from kglift.plan import Asking, ExtractPlan
from kglift.settings import open_provider, resolve_llm


def ask(asking: Asking, progress: Progress, tell: Callable[[str], None] = lambda _terms: None) -> Extraction:
    """Run one extraction method over a split graph.

    Args:
        asking: what is asked, by whom.
        progress: told after each unit.
        tell: called with licence terms before something is downloaded.

    Raises:
        LeakError: if something outside `train` would be shown.
        ExtractError: as `extract.steps.extract_steps`.
    """
    graph, method = _prepare(asking, tell)
    resolved = resolve_llm(asking.llm)
    if not asking.on_ray:
        return extract_steps(method, graph, open_provider(resolved), asking.ledger, asking.engine, progress)
    provider = OnRay(partial(open_provider, resolved))
    try:
        return extract_steps(method, graph, provider, asking.ledger, asking.engine, progress)
    finally:
        provider.shut_down()


def price(asking: Asking, tell: Callable[[str], None]) -> Estimate:
    """Say what an extraction may cost, as `ask` would pay it; nothing is sent."""
    graph, method = _prepare(asking, tell)
    return estimate(method, graph, open_provider(resolve_llm(asking.llm)), asking.ledger, asking.engine)


def batch(asking: Asking, tell: Callable[[str], None]) -> Batch:
    """Return an extraction by way of a batch endpoint.

    Raises:
        SettingError: if the provider has no batch endpoint.
    """
    provider = open_provider(resolve_llm(asking.llm))
    if not isinstance(provider, OpenAIAPI):
        msg = f"the provider `{provider.name}` has no batch endpoint; take `openai_api`"
        raise SettingError(msg)
    graph, method = _prepare(asking, tell)
    return Batch(method, graph, provider, asking.ledger, asking.engine)


def asks_encoder(step: ExtractPlan) -> bool:
    """Say whether a method looks up names by meaning, too."""
    return _asks_encoder(_method_of(step))


def _method_of(step: ExtractPlan) -> Method:
    cls = Method.find(step.method)
    return cls(build_config(cls.Config, step.config, where=f"the configuration of method `{step.method}`"))


def _asks_encoder(method: Method) -> bool:
    return float(getattr(method.config, "min_meaning", 1.0)) < 1.0


def _prepare(asking: Asking, tell: Callable[[str], None]) -> tuple[Graph, Method]:
    method = _method_of(asking.step)
    if _asks_encoder(method):
        method.encode = sentence_encoder(tell)
    graph = read_graph(asking.graph_dir)
    assert_no_leak(graph)
    return graph, method
