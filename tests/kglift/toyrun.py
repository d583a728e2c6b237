"""A whole run in seconds: planted data in RecBole's files, recorded answers, small models."""

import json
import random
from pathlib import Path

N_USERS, N_ITEMS, N_KEPT = 30, 24, 10
_MOODS = {0: "dark", 1: "merry"}


def write_toy_run(folder: Path, *, models: str = "") -> Path:
    """Write the data, the answers and `run.toml` into `folder`, and return the TOML file's path.

    Even users like even items. The existing graph knows the genre of each item, the recorded LLM its mood.
    """
    data = folder / "toy"
    data.mkdir(parents=True)
    _write_data(data)
    answers = folder / "answers.jsonl"
    answers.write_text("\n".join(json.dumps(a) for a in _answers()), encoding="utf-8")
    plan = folder / "run.toml"
    plan.write_text(_PLAN.format(data=data, answers=answers, models=models or _MODELS), encoding="utf-8")
    return plan


def _write_data(data: Path) -> None:
    rng = random.Random(3)
    rows = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for user in range(N_USERS):
        liked = rng.sample([i for i in range(N_ITEMS) if i % 2 == user % 2], N_KEPT)
        rows += [f"{user}\t{item}\t5\t{1000 * user + place}" for place, item in enumerate(liked)]
    (data / "toy.inter").write_text("\n".join(rows) + "\n", encoding="utf-8")
    titles = ["item_id:token\tmovie_title:token_seq\tclass:token_seq"]
    titles += [f"{i}\tFilm number {i}\t{'Crime Drama' if i % 2 else 'Comedy'}" for i in range(N_ITEMS)]
    (data / "toy.item").write_text("\n".join(titles) + "\n", encoding="utf-8")
    facts = ["head_id:token\trelation_id:token\ttail_id:token"]
    facts += [f"m.{i}\tfilm.film.genre\tm.g{i % 2}" for i in range(N_ITEMS)]
    (data / "toy.kg").write_text("\n".join(facts) + "\n", encoding="utf-8")
    links = ["item_id:token\tentity_id:token", *(f"{i}\tm.{i}" for i in range(N_ITEMS))]
    (data / "toy.link").write_text("\n".join(links) + "\n", encoding="utf-8")


def _answers() -> list[dict[str, str]]:
    moods = [
        {"unit": f"item:{i}", "text": json.dumps({"has_theme": ["friendship"], "has_mood": [_MOODS[i % 2]]})}
        for i in range(N_ITEMS)
    ]
    kinds = [{"category": "favourites", "items": [1, 2, 3]}]
    interests = [
        {"unit": f"user:{u}", "text": json.dumps({"angles": [{"angle": "mood", "categories": kinds}]})}
        for u in range(N_USERS)
    ]
    return moods + interests


_MODELS = """
[[models]]
model = "popularity"
n_seeds = 1

[[models]]
model = "lightgcn"
graphs = ["none", "kg", "kg+llm", "kg+random"]
config = { epochs = 4, eval_every = 2, checkpoint_every = 1 }
"""

_PLAN = """
name = "toy"
seed = 5

[data]
source = "recbole"
path = "{data}"

[split]
method = "leave_last_out"

[llm]
provider = "replay"
config = {{ path = "{answers}", model = "recorded" }}

[[extract]]
method = "item_facts"
config = {{ relations = ["has_theme", "has_mood"] }}

[[extract]]
method = "llmhg"
config = {{ max_users = 10 }}

[bench]
n_seeds = 2
ks = [10, 20]
n_explained = 3
{models}
"""
