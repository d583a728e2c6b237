"""extract: text to graph facts by a large language model; every answer is paid for once."""

from extract.engine import Extraction, extract
from extract.engine_config import EngineConfig
from extract.ledger import Ledger
from extract.method import Facts, Method, Rejected, Unit
from extract.provider import Completion, Provider, Request
from extract.summary import Summary
from extract.template import Prompt, load_prompt

__all__ = [
    "Completion",
    "EngineConfig",
    "Extraction",
    "Facts",
    "Ledger",
    "Method",
    "Prompt",
    "Provider",
    "Rejected",
    "Request",
    "Summary",
    "Unit",
    "extract",
    "load_prompt",
]
