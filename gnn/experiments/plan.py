"""What an experiment does: a TOML file, read into frozen values."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gnn.build import configure
from gnn.experiments.peers import PEERS
from gnn.metrics import METRICS
from kg.config import build_config, read_toml
from kg.errors import ConfigError, did_you_mean, first_five
from kg.source import Source
from kg.split import SplitConfig

GraphVariant = Literal["none", "kg", "random"]
BUILT_IN = Path(__file__).parent


@dataclass(frozen=True)
class DataPlan:
    """Which files are read.

    Attributes:
        source: a member of `kg.sources`.
        path: what it reads, below the folder of all data sets.
        config: configuration of the source.
    """

    source: str
    path: str
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelPlan:
    """One recommender.

    Attributes:
        model: a name of `python -m gnn models`.
        graphs: what it is trained on: `none` = interactions only, `kg` = with the facts of the data set, `random` =
            with as many facts of the same relations and degrees, rewired at random (anew for each seed).
        config: parameters of the model and of its training loop, over those of [train].
    """

    model: str
    graphs: tuple[GraphVariant, ...] = ("none",)
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PeerPlan:
    """A library beside our models, on interactions only, with the first seed.

    Attributes:
        model: a name of `gnn.experiments.peers`.
        config: parameters of the library.
    """

    model: str
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the name."""
        if self.model not in PEERS:
            msg = f"unknown peer `{self.model}`; {did_you_mean(self.model, PEERS)}"
            raise ConfigError(msg)


@dataclass(frozen=True)
class Published:
    """A number that others published for the same data and protocol.

    Attributes:
        model: whose it is.
        metrics: `NAME@K` -> value.
        source: where it stands.
        graph: what the model was trained on.
        absolute: how far ours may be from it.
        relative: the same as a share of it; the larger counts. Both 0: nothing is claimed.
    """

    model: str
    metrics: dict[str, float]
    source: str
    graph: GraphVariant = "none"
    absolute: float = 0.0
    relative: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.absolute < 0 or self.relative < 0:
            msg = f"`absolute` is {self.absolute}, `relative` is {self.relative}; expected 0 or more"
            raise ConfigError(msg)


@dataclass(frozen=True)
class Protocol:
    """What all models share.

    Attributes:
        about: the question in one sentence.
        seeds: of initial values, batches and random graphs; a closed-form model runs on `none` and `kg` with the first.
        ks: cut-offs of the metrics.
        metrics: which of them are compared and shown, as `NAME@K`.
        keeps_curve: put the validation points of every run into the result.
    """

    about: str
    seeds: tuple[int, ...] = (0,)
    ks: tuple[int, ...] = (10, 20)
    metrics: tuple[str, ...] = ("recall@20", "ndcg@20")
    keeps_curve: bool = False

    def __post_init__(self) -> None:
        """Check that there are seeds, each once, and that every metric is computed."""
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            msg = f"`seeds` is {list(self.seeds)}; expected different numbers from 0, at least one"
            raise ConfigError(msg)
        if not self.ks or min(self.ks) < 1:
            msg = f"`ks` is {list(self.ks)}; expected cut-offs from 1, at least one"
            raise ConfigError(msg)
        check_metrics(self.metrics, self.ks)


@dataclass(frozen=True)
class Experiment:
    """A whole experiment.

    Attributes:
        name: of the TOML file.
        protocol: what all models share.
        data: which files are read.
        split: how interactions are split.
        train: parameters of the loop for all models.
        models: what is trained.
        peers: libraries beside them.
        published: what others measured.
        values: the TOML file as it was read, for the result.
    """

    name: str
    protocol: Protocol
    data: DataPlan
    split: SplitConfig
    train: dict[str, Any]
    models: tuple[ModelPlan, ...]
    peers: tuple[PeerPlan, ...]
    published: tuple[Published, ...]
    values: dict[str, Any]

    def __post_init__(self) -> None:
        """Check what no single table can know: names, parameters, and that published numbers have a run."""
        Source.find(self.data.source)
        names = [m.model for m in self.models] + [p.model for p in self.peers]
        twice = sorted({n for n in names if names.count(n) > 1})
        if not names or twice:
            msg = f"[[models]] of `{self.name}` lists {first_five(twice) or 'nothing'}; expected each model once"
            raise ConfigError(msg)
        for model in self.models:
            configure(model.model, self.values_of(model, 0), where=f"[[models]] `{model.model}` of `{self.name}`")
        run = {(m.model, graph) for m in self.models for graph in m.graphs}
        for published in self.published:
            if (published.model, published.graph) not in run:
                msg = f"[[published]] of `{self.name}`: `{published.model}` on `{published.graph}` is not run; add it"
                raise ConfigError(msg)
            check_metrics(published.metrics, self.protocol.ks)

    def values_of(self, model: ModelPlan, seed: int) -> dict[str, Any]:
        """Return the parameters of one run, of the model and the loop together.

        Raises:
            ConfigError: if a table sets the seed.
        """
        values = {**self.train, **model.config}
        if "seed" in values:
            msg = f"`{self.name}` sets `seed` for `{model.model}`; list `seeds` at the top instead"
            raise ConfigError(msg)
        return {**values, "seed": seed}


@dataclass(frozen=True)
class _Tables:
    """The tables of a TOML file; what stands above them is the protocol."""

    data: dict[str, Any]
    models: list[dict[str, Any]]
    split: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    peers: list[dict[str, Any]] = field(default_factory=list)
    published: list[dict[str, Any]] = field(default_factory=list)


def check_metrics(names: Mapping[str, float] | tuple[str, ...], ks: tuple[int, ...]) -> None:
    """Check that every metric is one of those that an evaluation at `ks` gives.

    Raises:
        ConfigError: if one is not; the text suggests the nearest.
    """
    known = [f"{name}@{k}" for name in METRICS for k in ks]
    for name in names:
        if name not in known:
            msg = f"metric `{name}` is not computed; {did_you_mean(name, known)}"
            raise ConfigError(msg)


def built_in() -> dict[str, Path]:
    """Return the TOML file of each experiment that comes with gnn, by name."""
    return {p.stem: p for p in sorted(BUILT_IN.glob("*.toml"))}


def read_experiment(name: str) -> Experiment:
    """Read an experiment.

    Args:
        name: one of `built_in`, or the path of a TOML file.

    Raises:
        ConfigError: if there is none, or it is wrong; the text names the table and key.
        UnknownNameError: if it names an unknown model or source.
    """
    known = built_in()
    path = Path(name) if name.endswith(".toml") else known.get(name)
    if path is None:
        msg = f"`{name}` is neither an experiment nor a TOML file; {did_you_mean(name, known)}"
        raise ConfigError(msg)
    values = read_toml(path)
    own = {f.name for f in dataclasses.fields(_Tables)}
    tables = build_config(_Tables, {k: v for k, v in values.items() if k in own}, where=path.name)
    protocol = build_config(Protocol, {k: v for k, v in values.items() if k not in own}, where=path.name)
    data = build_config(DataPlan, tables.data, where=f"[data] of {path.name}")
    how = build_config(SplitConfig, tables.split, where=f"[split] of {path.name}")
    models = tuple(build_config(ModelPlan, row, where=f"[[models]] of {path.name}") for row in tables.models)
    peers = tuple(build_config(PeerPlan, row, where=f"[[peers]] of {path.name}") for row in tables.peers)
    others = tuple(build_config(Published, row, where=f"[[published]] of {path.name}") for row in tables.published)
    return Experiment(path.stem, protocol, data, how, tables.train, models, peers, others, values)
