"""What a run does: the TOML file of `kglift run`, read into frozen values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from extract.engine import EngineConfig
from kg.config import build_config, read_toml
from kg.errors import ConfigError, did_you_mean, first_five
from kg.fuse import FuseConfig
from kg.split import SplitConfig

GraphVariant = Literal["none", "kg", "kg+llm", "kg+random"]
BUILT_IN = Path(__file__).parent / "systems"


@dataclass(frozen=True)
class DataPlan:
    """Where the interactions and the existing graph come from: `dataset` or `source` and `path`.

    Attributes:
        dataset: a name of `kglift data list`, fetched when needed.
        source: a member of `kg.sources`, e.g. `recbole`.
        path: what `source` reads.
        config: configuration of the source.
    """

    dataset: str = ""
    source: str = ""
    path: Path | None = None
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Demand exactly one way."""
        if bool(self.dataset) == bool(self.source and self.path):
            msg = "[data] names neither or both of `dataset` and `source` + `path`; give one of the two"
            raise ConfigError(msg)


@dataclass(frozen=True)
class LlmPlan:
    """Who answers.

    Attributes:
        provider: `auto` is `openai_api` where KGLIFT_LLM_BASE_URL is set, else the small `local` model.
        config: configuration of the provider.
    """

    provider: str = "auto"
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ExtractPlan:
    """One extraction method and its configuration."""

    method: str
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Asking:
    """One extraction.

    Attributes:
        graph_dir: directory of the graph that it asks about; its interactions must be split.
        step: method and its configuration.
        llm: who answers.
        engine: limits.
        ledger: SQLite file of replies; made when absent.
        on_ray: let the workers of a Ray cluster answer; needs the extra `ray`.
    """

    graph_dir: Path
    step: ExtractPlan
    llm: LlmPlan
    engine: EngineConfig
    ledger: Path
    on_ray: bool = False


@dataclass(frozen=True)
class ModelPlan:
    """One recommender of the benchmark.

    Attributes:
        model: a name of `python -m gnn models`.
        graphs: the graphs it is trained on; a model that sees no graph needs only `none`.
        n_seeds: how many seeds; 0 = as many as the benchmark says.
        config: parameters of the model and of its training loop.
    """

    model: str
    graphs: tuple[GraphVariant, ...] = ("none",)
    n_seeds: int = 0
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BenchPlan:
    """The comparison.

    Attributes:
        primary: the model whose comparison decides the verdict.
        n_seeds: seeds of each trained model.
        ks: cut-offs of the metrics.
        n_explained: how many recommendations of the primary model are explained.
    """

    primary: str = "lightgcn"
    n_seeds: int = 5
    ks: tuple[int, ...] = (10, 20)
    n_explained: int = 3

    def __post_init__(self) -> None:
        """Check the ranges; the report's metrics are at 20."""
        if 20 not in self.ks or min(self.ks) < 1:
            msg = f"`ks` is {list(self.ks)}; expected cut-offs from 1, with 20 among them, which the report shows"
            raise ConfigError(msg)
        if self.n_seeds < 1:
            msg = f"`n_seeds` is {self.n_seeds}; expected at least 1"
            raise ConfigError(msg)


@dataclass(frozen=True)
class _About:
    name: str
    seed: int = 0


@dataclass(frozen=True)
class RunPlan:
    """A whole run.

    Raises:
        ConfigError: if two steps would share a directory, or a comparison would be unequal.
    """

    name: str
    seed: int
    data: DataPlan
    split: SplitConfig
    llm: LlmPlan
    engine: EngineConfig
    extract: tuple[ExtractPlan, ...]
    fuse: FuseConfig
    bench: BenchPlan
    models: tuple[ModelPlan, ...]

    def __post_init__(self) -> None:
        """Check what no single table can know."""
        if self.seed < 0:
            msg = f"`seed` is {self.seed}; expected 0 or more"
            raise ConfigError(msg)
        if not self.models:
            msg = 'there is no [[models]] table, so there is nothing to compare; add e.g. model = "popularity"'
            raise ConfigError(msg)
        for what, names in (("model", [m.model for m in self.models]), ("method", [e.method for e in self.extract])):
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                msg = f"{what} {first_five(twice)} is listed more than once; make a run of its own for the second"
                raise ConfigError(msg)
        if self.bench.primary not in (m.model for m in self.models):
            hint = did_you_mean(self.bench.primary, [m.model for m in self.models])
            msg = f"bench.primary is `{self.bench.primary}`, which no [[models]] names; {hint}"
            raise ConfigError(msg)
        for model in self.models:
            if not self.extract and set(model.graphs) & {"kg+llm", "kg+random"}:
                msg = f"[[models]] `{model.model}` asks for the LLM's graph, but there is no [[extract]]; add one"
                raise ConfigError(msg)
            fixed = sorted({"seed", "paper_protocol"} & model.config.keys())
            if fixed:
                msg = f"[[models]] `{model.model}` sets {first_five(fixed)}, which a comparison decides; take it out"
                raise ConfigError(msg)


def find_plan(name: str) -> Path:
    """Return the TOML file called `name`: a path, or a built-in system by its stem.

    Raises:
        ConfigError: if there is neither; the text lists the built-in ones.
    """
    path = Path(name)
    if path.suffix == ".toml" or path.exists():
        return path
    built_in = {p.stem: p for p in BUILT_IN.glob("*.toml")}
    if name not in built_in:
        msg = f"`{name}` is neither a TOML file nor a built-in system; {did_you_mean(name, built_in)}"
        raise ConfigError(msg)
    return built_in[name]


def read_plan(path: Path, settings: Mapping[str, Any] | None = None) -> RunPlan:
    """Read a run's TOML file.

    Args:
        path: the file.
        settings: dotted keys that override it, e.g. {"bench.n_seeds": 3}.

    Raises:
        ConfigError: if it is absent or wrong; the text names the table and key.
    """
    values = read_toml(path)
    for key, value in (settings or {}).items():
        _override(values, key, value)
    plan = _build_plan(values, path.name)
    if plan.data.path is None:
        return plan
    located = path.parent / plan.data.path
    if not located.exists():
        msg = f"[data] of {path.name}: `{located}` does not exist; a path is taken from the folder of the TOML file"
        raise ConfigError(msg)
    return replace(plan, data=replace(plan.data, path=located))


def _build_plan(values: dict[str, Any], where: str) -> RunPlan:
    tables: dict[str, type[Any]] = {
        "data": DataPlan,
        "split": SplitConfig,
        "llm": LlmPlan,
        "engine": EngineConfig,
        "fuse": FuseConfig,
        "bench": BenchPlan,
    }
    lists: dict[str, type[Any]] = {"extract": ExtractPlan, "models": ModelPlan}
    known = {"name", "seed", *tables, *lists}
    for key in values:
        if key not in known:
            msg = f"unknown table or key `{key}` in {where}; {did_you_mean(key, known)}"
            raise ConfigError(msg)
    built: dict[str, Any] = {
        name: build_config(cls, values.get(name, {}), where=f"[{name}] of {where}") for name, cls in tables.items()
    }
    for name, cls in lists.items():
        rows = values.get(name, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            msg = f"`{name}` in {where} is no list of tables; write [[{name}]] above each"
            raise ConfigError(msg)
        built[name] = tuple(build_config(cls, row, where=f"[[{name}]] of {where}") for row in rows)
    about: dict[str, Any] = {key: value for key, value in values.items() if key in ("name", "seed")}
    return RunPlan(**asdict(build_config(_About, {"name": Path(where).stem, **about}, where=where)), **built)


def _override(values: dict[str, Any], key: str, value: Any) -> None:
    *tables, last = key.split(".")
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            msg = f"`--set {key}`: `{table}` is a list of tables, which only the TOML file can change"
            raise ConfigError(msg)
    values[last] = value
