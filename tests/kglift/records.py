"""A run that never happened, shaped like a real one, to test the report with: 60 users, 80 films, a weak LLM."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from extract.summary import Reason, Summary
from gnn.explain import PathFinder
from kg.ckg import CollaborativeKG
from kg.files import atomic_directory, write_graph, write_json, write_manifest
from kg.graph import Graph, concat
from kglift.explain import explain
from kglift.report.record import KG, KG_LLM, KG_RANDOM, NONE, RunRecord
from kglift.stages import STAGE_FORMAT
from kglift.stores import load_graph

TITLES = ("The Thin Man", "Night Train", "A Lie in the Rain", "Brass", "Le Départ", "夜の川", "Two for Tea", "Harbour")
GENRES, MOODS = ("comedy", "drama", "noir", "western"), ("dark", "light", "wistful", "tense")


@dataclass(frozen=True)
class Effects:
    """Mean ndcg@20 of the primary model by graph, beside `none`."""

    kg: float = 0.002
    kg_llm: float = 0.004
    kg_random: float = 0.002


def synthetic_record(
    effects: Effects = Effects(),
    n_seeds: int = 5,
    n_users: int = 60,
    title: str = "",
    words: str = "",
    checks: tuple = (),
) -> RunRecord:
    """Build a record; `title` and `words` go into an item's name and an LLM's reply."""
    rng = np.random.default_rng(0)
    base = _base(rng, n_users, title)
    fused = concat(base, _llm_graph(rng, base, words))
    results, per_user, curves = _results(rng, n_users, n_seeds, effects)
    finder = PathFinder(CollaborativeKG.from_graph(fused))
    told = [explain(fused, finder, f"user:{u}", f"item:{i}").to_dict() for u, i in ((3, 5), (4, 11), (7, 30))]
    return RunRecord(
        name="synthetic",
        config={
            "seed": 0,
            "bench": {"primary": "kgat", "n_seeds": n_seeds, "ks": [10, 20]},
            "extract": [{"method": "item_facts"}, {"method": "llmhg"}],
        },
        base=base,
        fused=fused,
        extractions=[_summary("item_facts", words), _summary("llmhg", words)],
        fusion=_fusion(),
        checks=checks
        or ({"severity": "info", "code": "cold_items", "count": 4, "examples": [], "text": "4 are cold."},),
        results=results,
        per_user=per_user,
        curves=curves,
        explanations=told,
        about={
            "version": "0.1.0",
            "commit": "0123456789abcdef",
            "device": "cpu",
            "python": "3.11.9",
            "torch": "2.15.0",
        },
    )


def write_run(record: RunRecord, root: Path) -> None:
    """Write a record as the directory that a run leaves, with its embedded store."""
    write_graph(record.base, root / "data")
    documents = {"fusion.json": record.fusion, "checks.json": {"findings": list(record.checks)}}
    write_graph(record.fused, root / "fuse", documents=documents)
    for summary in record.extractions:
        directory = root / f"extract-{summary['method']}"
        directory.mkdir()
        write_json(summary, directory / "summary.json")
    with atomic_directory(root / "bench") as bench:
        for name in ("results", "per_user", "curves"):
            pq.write_table(getattr(record, name), bench / f"{name}.parquet")
        write_manifest(bench, STAGE_FORMAT, config={"primary": record.config["bench"]["primary"]})
    (root / "explain").mkdir()
    write_json(list(record.explanations), root / "explain" / "explanations.json")
    write_json({"name": record.name, "config": record.config, "about": record.about}, root / "run.json")
    load_graph(record.fused, "ladybug", str(root / "graph.lbug"))


def _base(rng, n_users, title):
    users, items = [f"user:{u}" for u in range(n_users)], [f"item:{i}" for i in range(80)]
    names = {i: f"{TITLES[n % len(TITLES)]} {1930 + n}" for n, i in enumerate(items)}
    names["item:5"] = title or names["item:5"]
    entities = [{"entity_id": u, "type": "User", "name": u[5:]} for u in users]
    entities += [{"entity_id": i, "type": "Item", "name": names[i]} for i in items]
    entities += [{"entity_id": f"genre:{g}", "type": "Genre", "name": g} for g in GENRES]
    entities += [{"entity_id": f"person:{p}", "type": "Person", "name": f"Director {p}"} for p in range(25)]
    interactions = []
    for u in users:
        chosen = rng.choice(80, size=int(rng.integers(8, 30)), replace=False)
        for place, i in enumerate(chosen):
            split = "test" if place >= len(chosen) - 2 else "valid" if place == len(chosen) - 3 else "train"
            row = {"user_id": u, "item_id": f"item:{i}", "timestamp": 800_000_000 + 86_400 * place, "split": split}
            interactions.append(row)
    triples = [(i, "film.film.genre", f"genre:{GENRES[rng.integers(4)]}") for i in items]
    triples += [(i, "film.film.directed_by", f"person:{rng.integers(25)}") for i in items]
    return Graph.from_rows(
        entities=entities,
        interactions=interactions,
        triples=[_triple(*t, 1.0, "dataset:synthetic") for t in triples],
        sources=[{"source": "dataset:synthetic", "kind": "dataset"}],
    )


def _llm_graph(rng, base, words):
    entities = base.entities.to_pylist()
    entities += [{"entity_id": f"mood:{m}", "type": "Mood", "name": m} for m in MOODS]
    triples, sources, hyperedges, members, texts = [], [], [], [], []
    for n in range(50):
        source, mood = f"llm:item_facts:{n}", MOODS[int(rng.integers(4))]
        reply = words or f'{{"facts": [{{"relation": "has_mood", "value": "{mood}"}}]}}'
        about = {"model": "tiny-135m", "prompt_version": "v1", "reply": reply, "reply_sha": f"{n:04d}", "tokens": 90}
        sources.append({**about, "source": source, "kind": "llm", "prompt": "item_facts", "unit": f"item:{n}"})
        triples.append(_triple(f"item:{n}", "has_mood", f"mood:{mood}", 0.7, source))
        if n % 5 == 0:
            source, user, hyperedge = f"llm:llmhg:{n}", f"user:{n // 5}", f"hyperedge:{n // 5}"
            sources.append({**about, "source": source, "kind": "llm", "prompt": "llmhg", "unit": user})
            hyperedges.append({"hyperedge_id": hyperedge, "relation": "interest", "weight": 0.8, "source": source})
            members.append({"hyperedge_id": hyperedge, "entity_id": user, "role": "user"})
            shown = base.interactions_of("train").filter(pa.compute.field("user_id") == user)["item_id"].to_pylist()
            members += [{"hyperedge_id": hyperedge, "entity_id": i, "role": "item"} for i in shown[:4]]
            texts.append({"entity_id": hyperedge, "kind": "category", "text": f"{mood} stories", "source": source})
    return Graph.from_rows(
        entities=entities, triples=triples, sources=sources, hyperedges=hyperedges, members=members, texts=texts
    )


def _triple(head, relation, tail, confidence, source):
    return {"head": head, "relation": relation, "tail": tail, "confidence": confidence, "source": source}


def _results(rng, n_users, n_seeds, effects):
    means = {NONE: 0.0, KG: effects.kg, KG_LLM: effects.kg_llm, KG_RANDOM: effects.kg_random}
    plans = [("popularity", NONE, 1, 0.08), ("ease", NONE, 1, 0.17)]
    plans += [("lightgcn", g, n_seeds, 0.155 + m / 2) for g, m in means.items()]
    plans += [("kgat", g, n_seeds, 0.16 + m) for g, m in means.items()]
    taste = rng.gamma(4, 0.25, size=n_users)
    results, per_user, curves = [], [], []
    for model, graph, seeds, level in plans:
        for seed in range(seeds):
            about = {"model": model, "graph": graph, "seed": seed}
            values = np.clip(level * taste + rng.normal(0, 0.01, n_users), 0, 1)
            frame = pd.DataFrame({"user_id": [f"user:{u}" for u in range(n_users)], "ndcg@20": values})
            per_user.append(frame.assign(**about, **{"recall@20": np.clip(values * 1.4, 0, 1)}))
            measured = {"recall@20": float(values.mean() * 1.4), "ndcg@20": float(values.mean())}
            results.append(
                {**about, **measured, "n_users": n_users, "epoch": 40 if seeds > 1 else 0, "seconds": 6.0 + seed}
            )
            curves += [
                {**about, "epoch": e, "loss": 0.7 * 0.95**e, "seconds": 0.1 * e, **_at(measured, e)}
                for e in range(5, 45, 5)
                if seeds > 1
            ]
    columns = ["model", "graph", "seed", "user_id", "recall@20", "ndcg@20"]
    return _table(results), pa.Table.from_pandas(pd.concat(per_user)[columns], preserve_index=False), _table(curves)


def _at(measured, epoch):
    return {metric: value * (1 - 0.8**epoch) for metric, value in measured.items()}


def _table(rows):
    return pa.Table.from_pylist(rows)


def _summary(method, words):
    rejects = {
        "unknown_relation": Reason(31, ("liked_by", "made_of", words or "is_about")),
        "not_in_catalogue": Reason(12, ("The Fat Man", "Day Train")),
    }
    return Summary(
        **{"method": method, "model": "tiny-135m", "runs": ("3fa9",), "prompt": method, "prompt_version": "v1"},
        **{"total": 60, "done": 44},
        **{
            "empty": 3,
            "rejected": 9,
            "set_aside": 4,
            "cached": 10,
            "asked": 50,
            "calls": 55,
            "repaired": 2,
            "retries": 1,
        },
        **{
            "set_aside_reasons": {"cut_off": Reason(4, ("item:9",))},
            "rejects": rejects,
            "grounded": 3,
            "duplicates": 5,
        },
        **{"prompt_tokens": 12_400, "completion_tokens": 4_321, "cost": 0.0, "paid_replies": 65, "paid_tokens": 18_000},
        **{"estimated_replies": 0},
        **{"paid_cost": 0.0, "seconds": 61.5, "tokens_per_s": 70.2, "facts": {"triples": {"has_mood": 50}}},
    ).to_dict()


def _fusion():
    return {
        "base": {"entities": 169, "triples": 160},
        "before": {"entities": 175, "triples": 214},
        "after": {"entities": 173, "triples": 210},
        "merged": [{"entity_id": "mood:Dark", "canonical_id": "mood:dark", "reason": "same name and type"}],
        "too_large": [],
        "duplicates": {"triples": 4},
        "conflicts": [{"kind": "functional", "head": "item:3", "relation": "released", "values": ["1933", "1934"]}],
        "dropped": [{"table": "triples", "row": {"head": "item:3"}, "reason": "low_confidence"}] * 4,
        "dropped_by_reason": {"low_confidence": 4},
    }
