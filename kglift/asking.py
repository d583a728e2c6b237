"""Asking an LLM on behalf of a command or a stage: method and provider by name."""

from functools import partial
from pathlib import Path

from extract.batch import Batch
from extract.engine import EngineConfig, Extraction
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
from kglift.plan import ExtractPlan, LlmPlan
from kglift.settings import open_provider, resolve_llm


def ask(
    graph_dir: Path,
    step: ExtractPlan,
    llm: LlmPlan,
    engine: EngineConfig,
    ledger: Path,
    progress: Progress,
    on_ray: bool = False,
) -> Extraction:
    """Run one extraction method over a split graph.

    Args:
        graph_dir: directory of the graph; its interactions must be split.
        step: method and its configuration.
        llm: who answers.
        engine: limits.
        ledger: SQLite file of replies; made when absent.
        progress: told after each unit.
        on_ray: let the workers of a Ray cluster answer; needs the extra `ray`.

    Raises:
        LeakError: if something outside `train` would be shown.
        ExtractError: as `extract.steps.extract_steps`.
    """
    graph, method = _prepare(graph_dir, step)
    resolved = resolve_llm(llm)
    if not on_ray:
        return extract_steps(method, graph, open_provider(resolved), ledger, engine, progress)
    provider = OnRay(partial(open_provider, resolved))
    try:
        return extract_steps(method, graph, provider, ledger, engine, progress)
    finally:
        provider.shut_down()


def price(graph_dir: Path, step: ExtractPlan, llm: LlmPlan, engine: EngineConfig, ledger: Path) -> Estimate:
    """Say what the first step of an extraction may cost, as `ask` would pay it; nothing is sent."""
    graph, method = _prepare(graph_dir, step)
    return estimate(method, graph, open_provider(resolve_llm(llm)), ledger, engine)


def batch(graph_dir: Path, step: ExtractPlan, llm: LlmPlan, engine: EngineConfig, ledger: Path) -> Batch:
    """Return an extraction by way of a batch endpoint; the arguments are those of `ask`.

    Raises:
        SettingError: if the provider has no batch endpoint.
    """
    provider = open_provider(resolve_llm(llm))
    if not isinstance(provider, OpenAIAPI):
        msg = f"the provider `{provider.name}` has no batch endpoint; take `openai_api`"
        raise SettingError(msg)
    graph, method = _prepare(graph_dir, step)
    return Batch(method, graph, provider, ledger, engine)


def _prepare(graph_dir: Path, step: ExtractPlan) -> tuple[Graph, Method]:
    cls = Method.find(step.method)
    config = build_config(cls.Config, step.config, where=f"the configuration of method `{step.method}`")
    method = cls(config)
    if getattr(config, "min_meaning", 1.0) < 1.0:
        method.encode = sentence_encoder()
    graph = read_graph(graph_dir)
    assert_no_leak(graph)
    return graph, method
