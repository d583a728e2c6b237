"""What comes from the environment: secrets, and where an LLM or a Neo4j server is."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from extract.provider import Provider
from kg.config import build_config
from kglift.downloads import fetch, find_offer
from kglift.errors import SettingError
from kglift.plan import LlmPlan

LOCAL_MODEL = "smollm2-135m"
_KEY = "KGLIFT_LLM_API_KEY"


@dataclass(frozen=True)
class Neo4jSettings:
    """Where a Neo4j server is, from NEO4J_URI, NEO4J_USER, NEO4J_PASSWORD and NEO4J_DATABASE."""

    uri: str
    user: str
    password: str = field(repr=False)
    database: str = "neo4j"


def neo4j_settings() -> Neo4jSettings | None:
    """Return the server that the environment names, or None."""
    uri = os.environ.get("NEO4J_URI", "")
    if not uri:
        return None
    env = os.environ
    return Neo4jSettings(
        uri, env.get("NEO4J_USER", "neo4j"), env.get("NEO4J_PASSWORD", ""), env.get("NEO4J_DATABASE", "neo4j")
    )


def resolve_llm(plan: LlmPlan) -> LlmPlan:
    """Decide who answers: turn `auto` into a provider, and complete its configuration from the environment.

    Raises:
        SettingError: if an endpoint is named without a model.
    """
    url, model = os.environ.get("KGLIFT_LLM_BASE_URL", ""), os.environ.get("KGLIFT_LLM_MODEL", "")
    if plan.provider == "auto":
        return resolve_llm(LlmPlan("openai_api" if url else "local", plan.config))
    if plan.provider == "openai_api":
        found = {"base_url": url, "model": model}
        config = {**{k: v for k, v in found.items() if v}, **plan.config}
        for key, variable in (("base_url", "KGLIFT_LLM_BASE_URL"), ("model", "KGLIFT_LLM_MODEL")):
            if not config.get(key):
                msg = f"the provider `openai_api` needs `{key}`; set {variable}, or `{key}` under [llm.config]"
                raise SettingError(msg)
        return LlmPlan(plan.provider, config)
    return plan


def needs_local_model(plan: LlmPlan) -> bool:
    """Say whether a plan is answered by the model that kglift fetches."""
    resolved = resolve_llm(plan)
    return resolved.provider == "local" and "model_path" not in resolved.config


def open_provider(plan: LlmPlan) -> Provider:
    """Make the provider of a resolved plan; fetches the local model when it is needed.

    Raises:
        SettingError: if the key of an endpoint is missing, or the provider is one that only Python can give answers.
    """
    if plan.provider == "scripted":
        msg = "the provider `scripted` gets its answers in Python, for tests; take `replay` for a file of answers"
        raise SettingError(msg)
    cls: Any = Provider.find(plan.provider)
    config = dict(plan.config)
    if needs_local_model(plan):
        config["model_path"] = str(_local_model())
    built = build_config(cls.Config, config, where="[llm.config]")
    if plan.provider != "openai_api":
        return cls(built)  # type: ignore[no-any-return]
    key = os.environ.get(_KEY, "")
    if not key:
        msg = f"no API key: {_KEY} is not set; export it (any word will do for a server that asks for none)"
        raise SettingError(msg)
    return cls(built, api_key=key)  # type: ignore[no-any-return]


def _local_model() -> Path:
    return fetch(LOCAL_MODEL) / find_offer(LOCAL_MODEL).files[0]
