"""The local model through the engine, beside what llama.cpp itself does with the same file on the same cores."""

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import xllamacpp

from extract.bench.moods import Moods, made_items
from extract.bench.over_http import Row
from extract.engine import EngineConfig, extract
from extract.providers.local import Local, n_cores
from extract.summary import Summary
from kg.progress import Progress, silent

_N_PROMPT, _N_GENERATED = 512, 128  # the pp512 and tg128 of llama-bench
_N_TURNS = 3
_FIRST_TOKEN = 1_000


def local(model_path: Path, n_units: int, progress: Progress = silent) -> list[Row]:
    """Answer small questions with a GGUF file, and time llama.cpp's own reading and writing in between.

    llama.cpp: one slot on all cores, 512 tokens read at once (pp512) and 128 written one by one (tg128), by the clock
    within llama.cpp; no grammar, nothing cached. The engine: copies with a thread each, a grammar, a ledger; `share` is
    the time that llama.cpp would have taken at these two rates for the tokens of all prompts and replies, to the time
    that it took, loading included.

    Args:
        model_path: a GGUF file.
        n_units: questions.
        progress: told after every turn.
    """
    own_s: dict[str, list[float]] = {"read": [], "written": []}
    asked: list[Summary] = []
    for turn in range(1, _N_TURNS + 1):
        server = _server(model_path)
        own_s["read"].append(_timings(server, _N_PROMPT, 1)["prompt_ms"] / 1000)
        own_s["written"].append(_timings(server, 1, _N_GENERATED)["predicted_ms"] / 1000)
        del server
        asked.append(_asked(model_path, n_units))
        progress(turn, _N_TURNS, f"{asked[-1].completion_tokens:,} tokens in {asked[-1].seconds:.1f} s")
    read_s, written_s = median(own_s["read"]), median(own_s["written"])
    found = sorted(asked, key=lambda one: one.seconds)[_N_TURNS // 2]
    own = found.prompt_tokens * read_s / _N_PROMPT + found.completion_tokens * written_s / _N_GENERATED
    said = f"{found.prompt_tokens:,} tokens read, {found.completion_tokens:,} written; share: of llama.cpp's two rates"
    about = f"tokens; {model_path.stem}, {n_cores()} threads, by llama.cpp's clock"
    return [
        Row("llama.cpp, pp512", _N_PROMPT, read_s, _N_PROMPT / read_s, note=about),
        Row("llama.cpp, tg128", _N_GENERATED, written_s, _N_GENERATED / written_s, note=about),
        Row("engine, local model", n_units, found.seconds, n_units / found.seconds, own / found.seconds, note=said),
    ]


def _asked(model_path: Path, n_units: int) -> Summary:
    config = EngineConfig(max_tokens=64, max_attempts=1)
    with tempfile.TemporaryDirectory(prefix="kglift-bench-") as folder:
        ledger = Path(folder) / "ledger.sqlite"
        return extract(Moods(), made_items(n_units), Local(Local.Config(model_path)), ledger, config).summary


def _timings(server: Any, n_prompt: int, n_generated: int) -> Any:
    prompt = list(range(_FIRST_TOKEN, _FIRST_TOKEN + n_prompt))
    fixed = {"cache_prompt": False, "ignore_eos": True, "temperature": 0}
    return server.handle_completions({"prompt": prompt, "n_predict": n_generated, **fixed})["timings"]


def _server(model_path: Path) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = str(model_path)
    params.n_ctx, params.n_parallel, params.n_gpu_layers = 1024, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = n_cores()
    params.verbosity = params.cache_ram_mib = 0
    params.fit_params = params.warmup = False
    return xllamacpp.Server(params)
