"""A run's TOML file: every slip is found before anything is paid or waited for."""

from pathlib import Path

import pytest

from kg.errors import ConfigError, UnknownNameError
from kglift.pipeline import plan_stages
from kglift.plan import read_plan
from kglift.progress import progress_bar
from tests.kglift.toyrun import write_toy_run


def changed(tmp_path: Path, old: str, new: str) -> Path:
    plan = write_toy_run(tmp_path)
    text = plan.read_text(encoding="utf-8")
    assert old in text
    plan.write_text(text.replace(old, new, 1), encoding="utf-8")
    return plan


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seed = 5", 'seed = "x"', "`seed` in run.toml is `x`"),
        ("seed = 5", "seed = -1", "`seed` is -1"),
        ("ks = [10, 20]", "ks = [5]", "20 among them"),
        ("n_seeds = 2", "n_seeds = 0", "`n_seeds` is 0"),
        ('model = "popularity"', 'model = "lightgcn"', "model `lightgcn` is listed more than once"),
        ('method = "llmhg"', 'method = "item_facts"', "method `item_facts` is listed more than once"),
        ("epochs = 4,", "seed = 4,", "sets `seed`, which a comparison decides"),
        ("epochs = 4,", "paper_protocol = true,", "sets `paper_protocol`"),
        ("[bench]", '[bench]\nprimary = "ligthgcn"', "did you mean `lightgcn`"),
        ("[split]", "[spilt]", "did you mean `split`"),
    ],
)
def test_what_the_plan_itself_shows(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_plan(changed(tmp_path, old, new))


def test_a_table_where_a_list_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`models` in run.toml is no list of tables; write \[\[models\]\]"):
        read_plan(write_toy_run(tmp_path), {"models": 3})


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("epochs = 4", "epoch = 4", "did you mean `epochs`"),
        ("max_users", "max_user", "did you mean `max_users`"),
        ('model = "popularity"', 'model = "popularty"', "did you mean `popularity`"),
        ('method = "llmhg"', 'method = "llmhgg"', "did you mean `llmhg`"),
        ('provider = "replay"', 'provider = "repaly"', "did you mean `replay`"),
        ('source = "recbole"', 'source = "recbol"', "did you mean `recbole`"),
    ],
)
def test_what_the_members_know(tmp_path: Path, old: str, new: str, said: str) -> None:
    plan = read_plan(changed(tmp_path, old, new))
    with pytest.raises((ConfigError, UnknownNameError), match=said):
        plan_stages(plan, progress_bar)


def test_the_llms_graph_needs_an_extraction(tmp_path: Path) -> None:
    plan = write_toy_run(tmp_path)
    head, _, rest = plan.read_text(encoding="utf-8").partition("[[extract]]")
    plan.write_text(head + "[bench]" + rest.partition("[bench]")[2], encoding="utf-8")
    with pytest.raises(ConfigError, match="there is no \\[\\[extract\\]\\]"):
        read_plan(plan)


def test_a_relative_path_is_taken_from_the_folder_of_the_file(tmp_path: Path) -> None:
    plan = changed(tmp_path, str(tmp_path / "toy"), "toy")
    assert read_plan(plan).data.path == tmp_path / "toy"
    with pytest.raises(ConfigError, match="`.*nowhere` does not exist"):
        read_plan(changed(tmp_path / "again", str(tmp_path / "again" / "toy"), "nowhere"))


def test_a_changed_answer_file_changes_the_extraction(tmp_path: Path) -> None:
    plan = read_plan(write_toy_run(tmp_path))
    before = {stage.name: stage.settings for stage in plan_stages(plan, progress_bar)}
    (tmp_path / "answers.jsonl").write_text("{}", encoding="utf-8")
    after = {stage.name: stage.settings for stage in plan_stages(plan, progress_bar)}
    assert before["extract-llmhg"] != after["extract-llmhg"]
    assert before["data"] == after["data"]
