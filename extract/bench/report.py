"""All timings of the engine, with what they were taken on."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from extract.bench.local import local
from extract.bench.over_http import Row, cached, over_http
from kg.files import code_version
from kg.machine import cpu_model


@dataclass(frozen=True)
class Timings:
    """What was timed, where and when.

    Attributes:
        date: in UTC.
        code: version and commit.
        cpu: name of the processor.
        n_cpus: its cores.
        load_before: processes that wanted a core, over the last minute.
        load_after: the same, at the end.
        rows: one for each way.
    """

    date: str
    code: dict[str, Any]
    cpu: str
    n_cpus: int | None
    load_before: float
    load_after: float
    rows: tuple[Row, ...]


def measure(n_units: int, n_cached: int, local_model: Path | None = None, n_local: int = 0) -> Timings:
    """Time every way.

    Args:
        n_units: questions over HTTP, for each way; 0: none.
        n_cached: questions answered from the ledger; 0: none.
        local_model: a GGUF file that answers questions, too.
        n_local: how many.
    """
    before = os.getloadavg()[0]
    rows = (over_http(n_units) if n_units else []) + (cached(n_cached) if n_cached else [])
    rows += local(local_model, n_local) if local_model else []
    return Timings(
        datetime.now(UTC).isoformat(),
        code_version(),
        cpu_model(),
        os.cpu_count(),
        before,
        os.getloadavg()[0],
        tuple(rows),
    )
