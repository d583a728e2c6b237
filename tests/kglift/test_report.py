"""What a user would lose: a verdict that follows its rule, figures that agree, a page that is safe and offline."""

import dataclasses
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from rich.console import Console

from gnn.significance import holm, paired_test
from kglift.errors import RunError
from kglift.report import build_report, render_html, render_terminal
from kglift.report.comparison import compare
from kglift.report.figures import draw_neighbourhood
from kglift.report.graphs import neighbourhood
from kglift.report.svg import to_svg
from kglift.report.verdict import judge
from tests.kglift.records import Effects, synthetic_record

HOSTILE_TITLE = "<script>alert(1)</script> $x_1$ & 夜 [red]"
HOSTILE_WORDS = "\"'><img src=x onerror=alert(1)> [bold]{{ 7 * 7 }}"
HELPED = Effects(kg=0.004, kg_llm=0.02, kg_random=0.004)


@pytest.fixture(scope="module")
def record():
    return synthetic_record(HELPED)


@pytest.fixture(scope="module")
def report(record):
    return build_report(record)


@pytest.fixture(scope="module")
def clean_page(report):
    return render_html(report)


@pytest.fixture(scope="module")
def page():
    hostile = synthetic_record(HELPED, title=HOSTILE_TITLE, words=HOSTILE_WORDS)
    return render_html(build_report(hostile))


@pytest.mark.parametrize(
    ("effects", "n_seeds", "n_users", "outcome", "reason"),
    [
        (HELPED, 5, 60, "helped", "It beats a random graph of equal size too"),
        (Effects(kg=0.004, kg_llm=0.02, kg_random=0.02), 5, 60, "no_effect", "not a random graph of equal size"),
        (Effects(kg=0.01, kg_llm=0.01, kg_random=0.01), 5, 60, "no_effect", "within what chance gives"),
        (Effects(kg=0.02, kg_llm=0.002, kg_random=0.002), 5, 60, "hurt", "worse than the data set's KG alone"),
        (Effects(kg=-0.06, kg_llm=-0.03, kg_random=-0.06), 5, 60, "no_effect", "worse than with none"),
        (HELPED, 3, 60, "not_enough_evidence", "There are 3 seeds; at least 5 are asked for"),
        (HELPED, 5, 20, "not_enough_evidence", "There are 20 test users; at least 30 are needed"),
    ],
)
def test_the_verdict_follows_the_rule(effects, n_seeds, n_users, outcome, reason):
    record = synthetic_record(effects, n_seeds, n_users)
    verdict = judge(compare(record), "kgat", record.checks)
    assert verdict["outcome"] == outcome
    assert reason in verdict["reason"]


def test_a_leak_makes_every_verdict_worthless():
    leak = {"severity": "error", "code": "shown_held_out", "count": 1, "examples": [], "text": "A test pair was shown."}
    report = build_report(synthetic_record(HELPED, checks=(leak,)))
    assert report["verdict"]["outcome"] == "not_enough_evidence"
    assert "The leak check failed" in report["verdict"]["reason"]
    assert not report["checks"]["is_clean"]


def test_a_missing_control_is_named(record):
    report = build_report(_without_graph(record, "kg+random"))
    assert report["verdict"]["outcome"] == "not_enough_evidence"
    assert report["verdict"]["reason"] == "The primary model was not evaluated on: KG + random graph."


def test_a_run_without_the_metrics_of_the_report_says_what_to_change(record):
    only_10 = record.per_user.rename_columns([c.replace("@20", "@10") for c in record.per_user.column_names])
    with pytest.raises(RunError, match=r"has no `recall@20`, only recall@10, ndcg@10; add 20 to `ks`"):
        build_report(dataclasses.replace(record, per_user=only_10))


def test_the_sentence_carries_the_figures_of_the_table(report):
    verdict = report["verdict"]
    rows = {r["graph"]: r for r in report["comparison"]["rows"] if r["model"] == "kgat"}
    for graph in ("kg", "kg+llm", "none"):
        assert f"{rows[graph]['ndcg@20']['mean']:.4f}" in verdict["sentence"]
    assert f"{verdict['tests']['kg']['difference']:+.4f}" in verdict["sentence"]
    assert "60 users and 5 seeds" in verdict["sentence"]


def test_figures_are_means_over_seeds_first_then_users(record, report):
    frame = record.per_user.to_pandas()
    chosen = frame[(frame["model"] == "kgat") & (frame["graph"] == "kg+llm")]
    by_user = chosen.groupby("user_id")["ndcg@20"].mean()
    row = next(r for r in report["comparison"]["rows"] if (r["model"], r["graph"]) == ("kgat", "kg+llm"))
    assert row["ndcg@20"]["mean"] == pytest.approx(by_user.mean(), rel=1e-5)
    assert row["ndcg@20"]["low"] < row["ndcg@20"]["mean"] < row["ndcg@20"]["high"]
    assert len(row["ndcg@20"]["by_seed"]) == row["n_seeds"] == 5


def test_tests_pair_users_and_are_corrected_over_all_of_a_metric(record, report):
    frame = record.per_user.to_pandas().groupby(["model", "graph", "user_id"])["ndcg@20"].mean()
    tests = [t for t in report["comparison"]["tests"] if t["metric"] == "ndcg@20"]
    expected = [
        paired_test(frame[t["model"], "kg+llm"].to_numpy(), frame[t["model"], t["against"]].to_numpy()) for t in tests
    ]
    assert [t["p_value"] for t in tests] == pytest.approx([e.p_value for e in expected], rel=1e-4)
    assert [t["p_adjusted"] for t in tests] == pytest.approx(holm([e.p_value for e in expected]), rel=1e-4)
    assert {(t["model"], t["against"]) for t in tests} == {
        (m, g) for m in ("lightgcn", "kgat") for g in ("kg", "kg+random", "none")
    }


def test_rows_of_users_in_another_order_change_nothing(record, report):
    order = np.random.default_rng(1).permutation(len(record.per_user))
    shuffled = dataclasses.replace(record, per_user=record.per_user.take(pa.array(order)))
    assert build_report(shuffled)["comparison"] == report["comparison"]


def test_the_keys_of_report_json_are_stable(report):
    assert list(report) == [
        *("schema", "version", "name", "verdict", "comparison", "data", "checks", "extractions", "fusion", "graph"),
        *("curves", "explanations", "reproduce"),
    ]
    assert set(report["verdict"]) == {
        *("outcome", "sentence", "reason", "rule", "model", "metric", "n_seeds", "n_users", "tests")
    }
    assert set(report["graph"]) == {"totals", "by_type", "by_relation", "degrees", "neighbourhood"}
    assert set(report["reproduce"]) == {"config", "about", "seeds"}
    assert (report["schema"], report["version"]) == ("kglift-report", 1)


def test_report_json_is_strict_json_and_renders_the_same_page_again(report, clean_page):
    again = json.loads(json.dumps(report, allow_nan=False))
    assert again == report
    assert render_html(again) == clean_page


def test_graph_counts_say_who_states_what(record, report):
    by_relation = {r["relation"]: r for r in report["graph"]["by_relation"]}
    n_moods = pc.sum(pc.equal(record.fused.triples["relation"], "has_mood")).as_py()
    assert by_relation["has_mood"] == {
        **{"relation": "has_mood", "total": n_moods, "without_llm": 0, "both": 0, "llm_only": n_moods}
    }
    assert by_relation["film.film.genre"]["llm_only"] == 0
    assert sum(r["total"] for r in by_relation.values()) == report["graph"]["totals"]["kg+llm"]["facts"]
    assert {"type": "hyperedge", "kg": 0, "kg+llm": 10} in report["graph"]["by_type"]


def test_degree_shares_fall_from_one(report):
    for row in report["graph"]["degrees"]:
        assert row["share"][0] == 1.0
        assert np.all(np.diff(row["share"]) < 0)
        assert np.all(np.diff(row["degree"]) > 0)


def test_a_hyperedge_has_spokes_and_is_no_clique(record, report):
    around = report["graph"]["neighbourhood"]
    kinds = {n["id"]: n for n in around["nodes"]}
    assert any(n["type"] == "hyperedge" for n in around["nodes"])
    for edge in around["edges"]:
        assert {edge["head"], edge["tail"]} <= set(kinds)
        assert not (kinds[edge["head"]]["column"] == "item" and kinds[edge["tail"]]["column"] == "item")
    train = record.base.interactions_of("train").filter(pc.field("user_id") == around["user"])["item_id"].to_pylist()
    assert {e["tail"] for e in around["edges"] if e["kind"] == "interaction"} <= set(train)


def test_facts_whose_tail_is_the_item_are_around_its_user_too(record):
    triples = record.fused.triples.to_pandas()
    turned = triples["relation"] == "film.film.genre"
    triples.loc[turned, ["head", "tail"]] = triples.loc[turned, ["tail", "head"]].to_numpy()
    fused = record.fused.replace(triples=pa.Table.from_pandas(triples, preserve_index=False))
    around = neighbourhood(fused, "user:3")
    assert {n["type"] for n in around["nodes"]} >= {"Genre", "Mood", "Person", "hyperedge"}


def test_a_node_of_no_particular_type_is_named_by_its_relation(record):
    entities = record.fused.entities.to_pandas().replace({"type": {"Genre": "Entity"}})
    fused = record.fused.replace(entities=pa.Table.from_pandas(entities, preserve_index=False))
    hints = {n["type"]: n["hint"] for n in neighbourhood(fused, "user:3")["nodes"]}
    assert (hints["Entity"], hints["Mood"]) == ("genre", "Mood")


def test_replies_stand_beside_the_facts_made_of_them(record, report):
    facts_of, interests_of = (e["examples"] for e in report["extractions"])
    assert len(facts_of) == len(interests_of) == 3
    example = facts_of[0]
    assert json.loads(example["reply"])["facts"][0]["value"] in example["facts"][0]
    assert example["facts"][0].startswith(f"{record.fused.names()[example['unit']]} --has_mood--> ")
    assert "stories” with" in interests_of[0]["facts"][0]


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.ids, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def parsed(page):
    parser = _Page()
    parser.feed(page)
    return parser


def test_the_page_asks_nobody_for_anything(page, parsed):
    assert "http://" not in page
    assert "https://" not in page
    assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & set(parsed.tags)
    assert not {"src", "srcset", "data", "action"} & {name for name, _ in parsed.attributes}
    assert not re.search(r"@import|@font-face|url\((?!#)", page)
    assert all(value.startswith("#") for name, value in parsed.attributes if name in ("href", "xlink:href"))


def test_hostile_titles_and_replies_are_shown_as_text(page, parsed):
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]
    text = "".join(parsed.text)
    assert HOSTILE_TITLE in text
    assert HOSTILE_WORDS in text
    assert "{{ 7 * 7 }}" in page


def test_hostile_names_in_a_picture_are_text(report):
    hostile = json.loads(json.dumps(report["graph"]["neighbourhood"]))
    for node in hostile["nodes"]:
        node["name"] = "--><script>x</script>$"
    parser = _Page()
    parser.feed(str(to_svg(draw_neighbourhood(hostile), "n", HOSTILE_TITLE)))
    assert "script" not in parser.tags
    assert "--><script>x</script>$" in "".join(parser.text)


def test_every_picture_has_a_text_and_ids_are_unique(parsed, page):
    labels = [value for name, value in parsed.attributes if name == "aria-label"]
    assert len(labels) == parsed.tags.count("svg") == 2 + 3 + 4 + 1
    assert all(len(label) > 20 for label in labels)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert set(re.findall(r'url\(#([^)"]+)\)|href="#([^"]+)"', page)) <= {(i, "") for i in parsed.ids} | {
        ("", i) for i in parsed.ids
    }


def test_the_page_is_small_and_in_order(clean_page):
    assert len(clean_page.encode()) < 3_000_000
    headings = re.findall(r"<h2>(.*?)</h2>", clean_page)
    assert headings == [
        "Comparison",
        "Data, splits and leak check",
        "What the LLM was asked, and what it said",
        "The graph",
        "Learning curves",
        "Why these were recommended",
        "How to repeat this",
    ]
    assert clean_page.index('class="answer"') < clean_page.index("<h2>")


def test_a_run_without_llm_or_trained_model_still_has_a_report(record):
    bare = dataclasses.replace(
        record,
        fused=record.base,
        extractions=[],
        explanations=[],
        fusion={},
        results=record.results.filter(pc.field("model") == "popularity"),
        per_user=record.per_user.filter(pc.field("model") == "popularity"),
        curves=record.curves.slice(0, 0),
        config={},
    )
    report = build_report(bare)
    assert report["verdict"]["outcome"] == "not_enough_evidence"
    assert "No LLM was asked in this run." in render_html(report)
    assert "There is not enough evidence" in _terminal(report)


def test_an_epoch_without_evaluation_leaves_a_gap(record):
    frame = record.curves.to_pandas()
    frame.loc[frame["epoch"] == 10, ["ndcg@20", "recall@20"]] = np.nan
    report = build_report(dataclasses.replace(record, curves=pa.Table.from_pandas(frame, preserve_index=False)))
    place = report["curves"][0]["epoch"].index(10)
    assert report["curves"][0]["ndcg@20"]["mean"][place] is None
    assert "<svg" in render_html(report)


def test_the_terminal_shows_the_sentence_the_table_and_the_cost(report):
    text = _terminal(report)
    assert report["verdict"]["sentence"] in text
    assert "KG + random graph" in text
    assert "item_facts: tiny-135m answered 56 of 60 units, 43 parts rejected, 18,000 tokens, cost 0.00" in text
    assert "leak check clean" in text


def test_the_terminal_shows_names_that_look_like_markup(record):
    results, per_user = (_renamed(t, "kgat", "[red]kgat[/red]") for t in (record.results, record.per_user))
    config = {"bench": {"primary": "[red]kgat[/red]"}}
    renamed = dataclasses.replace(record, results=results, per_user=per_user, config=config)
    assert "[red]kgat[/red]" in _terminal(build_report(renamed))


def _terminal(report):
    console = Console(file=io.StringIO(), width=500)
    render_terminal(report, console)
    return console.file.getvalue()


def _without_graph(record, graph):
    tables = {n: getattr(record, n).filter(pc.field("graph") != graph) for n in ("results", "per_user", "curves")}
    return dataclasses.replace(record, **tables)


def _renamed(table, old, new):
    column = pc.replace_substring(table["model"], old, new)
    return table.set_column(table.column_names.index("model"), "model", column)
