"""`python -m gnn`: train and evaluate on a box that has no more than `gnn` needs."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.distributed import is_torchelastic_launched

from gnn.bench.command import EXAMPLE, add_options, bench
from gnn.build import TrainConfig, configure
from gnn.checkpoint import load_model
from gnn.distributed import train_launched
from gnn.errors import GnnError
from gnn.evaluate import evaluate
from gnn.parquet import parquet_writer, read_columns
from gnn.recommend import recommend_from
from gnn.recommendations import read_ids, write_recommendations
from gnn.recommender import Recommender
from gnn.significance import compare
from gnn.synthetic import SyntheticConfig, write_synthetic
from gnn.train import train
from kg.config import parse_settings, read_toml
from kg.errors import KgError
from kg.files import write_json
from kg.stream import read_ckg

_EXAMPLE = """examples:
  python -m gnn models
  python -m gnn train runs/graph --model lightgcn --out runs/lightgcn --set dim=32 --set epochs=20
  torchrun --nproc-per-node 2 -m gnn train runs/graph --model lightgcn --out runs/lightgcn
  python -m gnn experiment lastfm-colakg --data ../shared/data
  python -m gnn evaluate runs/graph runs/lightgcn --json
  python -m gnn evaluate runs/graph runs/lightgcn --per-user runs/lightgcn-users.parquet
  python -m gnn compare runs/lightgcn-users.parquet runs/ease-users.parquet --metric ndcg@20
  python -m gnn recommend runs/lightgcn --user user:7 -k 5
  python -m gnn recommend runs/ease --graph runs/graph --all --out runs/recommendations.parquet
  python -m gnn generate --users 1000 --items 300 --interactions 20000 --out runs/synthetic"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; return its exit code: 0, 1 for an error of the user's, 130 for Ctrl-C."""
    parsed = _parser().parse_args(arguments)
    try:
        result, text = parsed.run(parsed)
        if result or text:  # one of several processes has nothing to say
            sys.stdout.write((json.dumps(result, indent=2) if parsed.json else text) + "\n")
    except (GnnError, KgError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt as stop:
        kept = str(stop) or "the same command goes on from the last checkpoint"
        sys.stderr.write(f"\nstopped; {kept}\n")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m gnn", description=__doc__, epilog=_EXAMPLE, formatter_class=layout)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, about: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about, epilog=_EXAMPLE, formatter_class=layout)
        added.add_argument("--json", action="store_true", help="write JSON to stdout")
        added.set_defaults(run=run)
        return added

    training = command("train", _train, "train a model on a graph directory")
    training.add_argument("graph", type=Path, metavar="DIR", help="a graph directory, split")
    training.add_argument("--model", required=True, help="a name out of `python -m gnn models`")
    training.add_argument("--out", type=Path, required=True, metavar="M", help="the model directory to make")
    training.add_argument("--config", type=Path, help="a TOML file with a [MODEL] table of parameters")
    training.add_argument("--set", action="append", default=[], metavar="K=V", help="a parameter of loop or model")
    evaluation = command("evaluate", _evaluate, "evaluate a model directory")
    evaluation.add_argument("graph", type=Path, metavar="DIR", help="the graph it was trained on")
    evaluation.add_argument("model", type=Path, metavar="M", help="what `train` made")
    evaluation.add_argument("--split", default="test", help="test or valid")
    evaluation.add_argument("--per-user", type=Path, metavar="FILE", help="also write each user's metrics, as Parquet")
    evaluation.add_argument("--legacy", action="store_true", help="also the NDCG of KGAT's code, which is too high")
    comparison = command("compare", _compare, "compare a model with others, by paired tests over users")
    comparison.add_argument("files", type=Path, nargs="+", metavar="FILE", help="what `evaluate --per-user` wrote")
    comparison.add_argument("--metric", action="append", default=[], metavar="M", help="e.g. ndcg@20; all if not given")
    _take_recommend(command("recommend", _recommend, "recommend to some users or to all"))
    generation = command("generate", _generate, "make a graph with the shape of a real one")
    for name in ("users", "items", "interactions"):
        generation.add_argument(f"--{name}", type=int, required=True, metavar="N", help=f"number of {name}")
    for name, default in (("entities", 0), ("triples", 0), ("relations", 1), ("seed", 0)):
        generation.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"default {default}")
    generation.add_argument("--out", type=Path, required=True, metavar="DIR", help="the graph directory to make")
    command("models", _models, "list the models and their parameters")
    about = "run an experiment on real data; goes on where it was stopped"
    _take_experiment(command("experiment", _experiment, about))
    about = "time ours beside others, in turn and in one process"
    timing = commands.add_parser("bench", help=about, description=about, epilog=EXAMPLE, formatter_class=layout)
    add_options(timing)
    timing.set_defaults(run=bench, json=False)
    return parser


def _take_experiment(experiment: argparse.ArgumentParser) -> None:
    experiment.add_argument(
        "name", metavar="NAME", nargs="?", help="of a file in gnn/experiments, or the path of a TOML file"
    )
    experiment.add_argument(
        "--data", type=Path, default="../shared/data", metavar="DIR", help="folder of the data sets"
    )
    experiment.add_argument("--work", type=Path, default="runs/experiments", metavar="DIR", help="where runs are kept")
    experiment.add_argument("--out", type=Path, metavar="F", help="result file; results/experiments/NAME.json")
    experiment.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at once")
    experiment.add_argument("--table", nargs="+", type=Path, metavar="F", help="print result files as Markdown instead")
    experiment.add_argument("--report", action="store_true", help="train nothing, write what is there so far")


def _take_recommend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="M", help="what `train` made; its vectors are enough")
    parser.add_argument(
        "--graph", type=Path, metavar="DIR", help="the graph it was trained on, for a model without vectors"
    )
    whom = parser.add_mutually_exclusive_group(required=True)
    whom.add_argument("--user", action="append", metavar="ID", help="a user; may be given often")
    whom.add_argument("--all", action="store_true", help="all users of the model")
    parser.add_argument("-k", type=int, default=10, help="how many items, default 10")
    parser.add_argument("--only", type=Path, metavar="FILE", help="recommend only these items, an id on each line")
    parser.add_argument("--block", type=Path, metavar="FILE", help="never recommend these items")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write Parquet instead of printing")


def _train(parsed: argparse.Namespace) -> tuple[dict[str, Any], str]:
    tables = {} if parsed.config is None else read_toml(parsed.config)
    values = {**tables.get(parsed.model, {}), **parse_settings(parsed.set)}
    model_values, config = configure(parsed.model, values, where="the settings")
    ckg = read_ckg(parsed.graph)
    work = train_launched if is_torchelastic_launched() else train
    trained = work(parsed.model, ckg, model_values, config, parsed.out, _show_progress)
    if trained is None:
        return {}, ""
    sys.stderr.write("\n" * bool(len(trained.curve)))
    about = {"model": parsed.model, "out": str(parsed.out), "best_epoch": trained.best_epoch}
    result = {**about, "epochs": len(trained.curve), "seconds": round(trained.seconds, 3)}
    text = f"{parsed.out}: {parsed.model}, {len(trained.curve)} epochs in {trained.seconds:.1f} s"
    return result, text + (f", epoch {trained.best_epoch} kept" if trained.best_epoch else "")


def _evaluate(parsed: argparse.Namespace) -> tuple[dict[str, Any], str]:
    ckg = read_ckg(parsed.graph)
    evaluation = evaluate(load_model(parsed.model, ckg), ckg, parsed.split, legacy=parsed.legacy)
    if parsed.per_user is not None:
        with parquet_writer(parsed.per_user, evaluation.per_user.schema) as writer:
            writer.write_table(evaluation.per_user)
    result = {"split": parsed.split, "n_users": evaluation.n_users, "seconds": round(evaluation.seconds, 3)}
    rows = [f"{name:<20}{value:.4f}" for name, value in evaluation.metrics.items()]
    head = f"{parsed.split}, {evaluation.n_users} users, {evaluation.seconds:.2f} s"
    return {**result, "metrics": evaluation.metrics}, "\n".join([head, *rows])


def _compare(parsed: argparse.Namespace) -> tuple[dict[str, Any], str]:
    tables = {str(path): read_columns(path, ["user_id"]) for path in parsed.files}
    rows = compare(tables, parsed.metric).to_pylist()
    width = max(len(row["against"]) for row in rows)
    text = [
        f"{row['against']:<{width}}  {row['metric']:<14}{row['difference']:+.4f}  "
        f"{row['low']:+.4f} to {row['high']:+.4f}  {row['p_adjusted']:.2g}"
        for row in rows
    ]
    head = f"{parsed.files[0]} against others: metric, difference of means, 95 % interval, p after Holm's correction"
    return {"comparisons": rows}, "\n".join([head, *text])


def _recommend(parsed: argparse.Namespace) -> tuple[dict[str, Any], str]:
    only, block = (None if path is None else read_ids(path) for path in (parsed.only, parsed.block))
    ckg = None if parsed.graph is None else read_ckg(parsed.graph)
    n_users, tables = recommend_from(parsed.model, ckg, parsed.user, parsed.k, only=only, block=block or ())
    if parsed.out is not None:
        counts = write_recommendations(tables, parsed.out, n_users, _show_count)
        sys.stderr.write("\n")
        made = ", ".join(f"{count} by {why}" for why, count in counts.items()) or "none"
        return {"out": str(parsed.out), "n_users": n_users, **counts}, f"{parsed.out}: {n_users} users; {made}"
    rows = [row for table in tables for row in table.to_pylist()]
    text = [f"{r['user_id']}  {r['rank']:>3}  {r['item_id']}  {r['score']:.4f}  {r['why']}" for r in rows]
    return {"recommendations": rows}, "\n".join(text)


def _generate(parsed: argparse.Namespace) -> tuple[dict[str, Any], str]:
    counts = ("users", "items", "interactions", "entities", "triples", "relations")
    config = SyntheticConfig(**{f"n_{name}": getattr(parsed, name) for name in counts}, seed=parsed.seed)
    write_synthetic(config, parsed.out, _show_count)
    sys.stderr.write("\n")
    result = {"out": str(parsed.out), **dataclasses.asdict(config)}
    text = f"{parsed.out}: {config.n_users} users, {config.n_items} items, {config.n_interactions} interactions"
    return result, text


def _models(parsed: argparse.Namespace) -> tuple[dict[str, Any], str]:
    result, rows = {}, [f"{'model':<12} parameters", f"{'(any)':<12} {_defaults(TrainConfig)}"]
    for name, member in Recommender.members().items():
        about = (member.__doc__ or "").partition("\n")[0]
        result[name] = {"about": about, "parameters": {f.name: f.default for f in dataclasses.fields(member.Config)}}
        rows += [f"{name:<12} {_defaults(member.Config)}", f"{'':<12} {about}"]
    return result, "\n".join(rows)


def _experiment(parsed: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from gnn.experiments.plan import read_experiment
    from gnn.experiments.report import make_result, markdown, read_result, table
    from gnn.experiments.runs import collect, execute, read_data

    if parsed.table:
        return {}, markdown(map(read_result, parsed.table))
    plan = read_experiment(parsed.name or "")
    if not parsed.report:
        execute(plan, parsed.data, parsed.work, parsed.jobs, _show_count)
        sys.stderr.write("\n")
    result = make_result(plan, read_data(plan, parsed.data), list(collect(plan, parsed.data, parsed.work)))
    out = parsed.out or Path("results/experiments") / f"{plan.name}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(result, out)
    return result, table(result)


def _defaults(config: type[Any]) -> str:
    return ", ".join(f"{f.name}={f.default}" for f in dataclasses.fields(config)) or "none"


def _show_progress(done: int, total: int | None, note: str = "") -> None:
    sys.stderr.write(f"\repoch {done}/{total}  {note}    ")
    sys.stderr.flush()


def _show_count(done: int, total: int | None, note: str = "") -> None:
    sys.stderr.write(f"\r{done}/{total} {note}    ")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
