from typing import Any

import pytest

from kg.check import CheckReport, assert_no_leak, check
from kg.errors import LeakError
from kg.graph import Graph
from tests.toy import toy_graph


def with_rows(**rows: list[dict[str, Any]]) -> Graph:
    graph = toy_graph()
    return Graph.from_rows(**{name: table.to_pylist() + rows.get(name, []) for name, table in graph.tables().items()})


def found(report: CheckReport, code: str) -> tuple[str, int, tuple[str, ...]]:
    finding = next(f for f in report.findings if f.code == code)
    return finding.severity, finding.count, finding.examples


def source(name: str, kind: str = "llm", **more: Any) -> dict[str, Any]:
    return {"source": name, "kind": kind, **more}


def shown(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"user_id": u, "item_id": i} for u, i in pairs]


def test_the_toy_graph_is_clean_and_its_oddities_are_listed() -> None:
    report = check(toy_graph())
    assert report.is_clean
    assert_no_leak(toy_graph())
    assert [f.code for f in report.findings] == [
        "held_out_guessed",
        "items_only_in_test",
        "orphan_entities",
        "sources_without_facts",
    ]
    assert found(report, "orphan_entities") == ("info", 1, ("place:paris",))
    assert found(report, "items_only_in_test") == ("info", 2, ("item:7", "item:8"))


@pytest.mark.parametrize("item", ["item:3", "item:4"])  # user 1's valid and test item
def test_a_held_out_interaction_in_a_prompt_is_a_leak(item: str) -> None:
    graph = with_rows(sources=[source("llm:c", reply_sha="c", shown=shown(("user:1", "item:1"), ("user:1", item)))])
    assert found(check(graph), "shown_held_out") == ("error", 1, (f"user:1 - {item}",))
    with pytest.raises(LeakError, match=f"shown_held_out: 1 .`user:1 - {item}`.: .*extract again"):
        assert_no_leak(graph)


def test_an_unknown_interaction_in_a_prompt_is_a_leak() -> None:
    graph = with_rows(sources=[source("llm:c", reply_sha="c", shown=shown(("user:1", "item:8"), ("user:9", "item:1")))])
    with pytest.raises(LeakError, match="shown_unknown: 2 .`user:1 - item:8`, `user:9 - item:1`"):
        assert_no_leak(graph)


def test_interactions_without_a_split_are_an_error() -> None:
    graph = with_rows(interactions=[{"user_id": "user:2", "item_id": "item:8", "split": "unsplit"}])
    with pytest.raises(LeakError, match="unsplit: 1 .`user:2 - item:8`.: .*kglift data split"):
        assert_no_leak(graph)


@pytest.mark.parametrize(("head", "tail"), [("user:2", "item:5"), ("item:5", "user:2")])
def test_a_data_set_that_states_a_held_out_interaction_again_is_a_leak(head: str, tail: str) -> None:
    fact = {"head": head, "relation": "bought", "tail": tail, "confidence": 1.0, "source": "dataset:toy"}
    with pytest.raises(LeakError, match="held_out_in_facts: 1 .`user:2 - item:5`"):
        assert_no_leak(with_rows(triples=[fact]))


def test_a_guessed_held_out_interaction_is_reported_but_no_leak() -> None:
    fact = {"head": "user:2", "relation": "augmented_interacts", "tail": "item:5", "confidence": 0.5}
    report = check(with_rows(triples=[{**fact, "source": "llm:bbbb"}, {**fact, "source": "rule:popularity"}]))
    assert report.is_clean
    severity, count, examples = found(report, "held_out_guessed")
    assert (severity, count) == ("warning", 4)
    assert "user:2 - item:5" in examples


def test_a_train_interaction_among_the_facts_is_no_finding() -> None:
    fact = {"head": "user:2", "relation": "bought", "tail": "item:2", "confidence": 1.0, "source": "dataset:toy"}
    assert [f.code for f in check(with_rows(triples=[fact])).findings] == [f.code for f in check(toy_graph()).findings]


@pytest.mark.parametrize(("users", "is_leak"), [(["user:2"], True), (["user:2", "user:3"], False)])
def test_a_hyperedge_of_one_user_states_the_pairs_with_its_items(users: list[str], is_leak: bool) -> None:
    graph = with_rows(
        hyperedges=[{"hyperedge_id": "h", "relation": "bundle", "weight": 1.0, "source": "dataset:toy"}],
        members=[{"hyperedge_id": "h", "entity_id": e, "role": "any"} for e in [*users, "item:2", "item:5"]],
    )
    assert check(graph).is_clean is not is_leak
    if is_leak:
        assert found(check(graph), "held_out_in_facts") == ("error", 1, ("user:2 - item:5",))


def test_weak_provenance_and_weak_facts_are_warnings() -> None:
    fact = {"head": "item:1", "relation": "has_mood", "tail": "mood:dark", "confidence": 0.0, "source": "llm:c"}
    cold = [{"user_id": "user:7", "item_id": "item:1", "split": "test"}]
    user = [{"entity_id": "user:7", "type": "User", "name": "7"}]
    report = check(with_rows(triples=[fact], sources=[source("llm:c")], interactions=cold, entities=user))
    assert report.is_clean
    assert found(report, "confidence_zero") == ("warning", 1, ("item:1 has_mood mood:dark",))
    assert found(report, "llm_facts_without_reply") == ("warning", 1, ("llm:c",))
    assert found(report, "users_without_train") == ("warning", 1, ("user:7",))


def test_examples_stop_at_five_and_the_report_is_plain() -> None:
    more = [{"entity_id": f"place:{n}", "type": "Place", "name": str(n)} for n in range(9)]
    report = check(with_rows(entities=more))
    plain = report.to_dict()
    assert plain["is_clean"] is True
    orphans = next(f for f in plain["findings"] if f["code"] == "orphan_entities")
    assert orphans["count"] == 10
    assert len(orphans["examples"]) == 5


def test_an_empty_graph_has_no_finding() -> None:
    assert check(Graph.from_tables()).findings == ()
