"""Chains are verified, extended and shared; the knowledge base saves calls."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from db.memory_store import MemoryStore
from extract.engine import Extraction
from extract.method import Unit
from extract.methods.llmrg import CHAIN, DIVERGENCE, LLMRG, REASONING
from extract.provider import Request
from extract.providers.replay import Replay
from extract.providers.scripted import Scripted
from extract.reasoning import Chain, chains_of, without_title
from extract.steps import extract_steps
from kg.errors import ConfigError
from kg.graph import Graph, concat

_TITLES = [*("Star Wars (1977)", "Alien (1979)", "Aliens (1986)", "Heat (1995)", "Big (1988)"), "Solaris (1972)"]


def films(*histories: str) -> Graph:
    """Users u1, u2, ...; a history is a string of item numbers, all in train."""
    items = [{"entity_id": f"i{n}", "type": "Item", "name": t, "text": None} for n, t in enumerate(_TITLES, 1)]
    users = [{"entity_id": f"u{n}", "type": "User", "name": f"u{n}"} for n in range(1, len(histories) + 1)]
    rows = [
        {"user_id": f"u{n}", "item_id": f"i{item}", "timestamp": when, "split": "train"}
        for n, history in enumerate(histories, 1)
        for when, item in enumerate(history)
    ]
    return Graph.from_rows(entities=[*users, *items], interactions=rows)


def answers(
    chains: list[dict[str, Any]], fill: str = "Alien", score: int = 80, titles: tuple[str, ...] = ()
) -> Callable[[Request], str]:
    """Answer each step with the same words."""

    def answer(request: Request) -> str:
        (field,) = request.schema["properties"]
        said = {"chains": chains, "title": fill, "score": score, "titles": list(titles)}
        return json.dumps({field: said[field]})

    return answer


def run(path: Path, graph: Graph, script: Callable[[Request], str], **config: Any) -> tuple[Extraction, Scripted]:
    provider = Scripted(Scripted.Config(), script)
    method = LLMRG(LLMRG.Config(**{"min_interactions": 2, "n_rounds": 1, **config}))
    return extract_steps(method, graph, provider, path / "ledger"), provider


def kinds(provider: Scripted) -> Counter[str]:
    return Counter(next(iter(r.schema["properties"])) for r in provider.requests)


def chains(graph: Graph, relation: str) -> list[tuple[str, tuple[str, ...], float]]:
    return sorted((c.user, c.items, c.weight) for c in chains_of(graph, relation))


_SPACE = {"items": [2, 1], "reason": "space"}


def test_a_chain_whose_masked_item_is_named_stands_without_a_score(tmp_path: Path) -> None:
    result, provider = run(tmp_path, films("123"), answers([{"items": [1, 2], "reason": "space"}], "alien"))
    assert kinds(provider) == {"chains": 1, "title": 1, "titles": 1}
    assert "[MASK]" in provider.requests[1].prompt
    assert "Alien" not in provider.requests[1].prompt
    assert chains(result.graph, REASONING) == [("u1", ("i1", "i2"), 1.0)]
    assert chains(result.graph, CHAIN) == [("", ("i1", "i2"), 1.0)]
    assert [t["text"] for t in result.graph.texts.to_pylist()] == ["space", "space"]


@pytest.mark.parametrize(
    ("reason", "title", "shown"),
    [
        ("Fallen leads to Excess Baggage", "Excess Baggage (1997)", "fallen leads to [MASK]"),
        ("from EXCESS  BAGGAGE (1997) on", "Excess Baggage (1997)", "from [MASK] on"),
        ("The Usual Suspects, then Heat", "Usual Suspects, The (1995)", "the [MASK] then heat"),
        ("Ridicule and Don't Look Now: loss", "Don't Look Now (1973)", "ridicule and [MASK] loss"),
        ("like La Haine", "Hate (La Haine) (1995)", "like la [MASK]"),
        ("both are dark", "Excess Baggage (1997)", "both are dark"),
        ("she wears The Mask, too", "Mask, The (1994)", "she wears the [MASK] too"),
        ("an excess of comedy", "Excess Baggage (1997)", ""),
        ("towards ExcessBaggage", "Excess Baggage (1997)", ""),
        ("Exces Bagage follows", "Excess Baggage (1997)", ""),
        ("dark", "", "dark"),
    ],
)
def test_a_reason_does_not_name_the_masked_item(reason: str, title: str, shown: str) -> None:
    assert without_title(reason, title) == shown


@pytest.mark.parametrize(
    ("reason", "shown"),
    [("Star Wars leads to Alien (1979)", "reason: star wars leads to [MASK]\n"), ("more aliens", "<chain>\n1.")],
)
def test_a_masked_item_cannot_be_copied_from_the_reason(tmp_path: Path, reason: str, shown: str) -> None:
    _, provider = run(tmp_path, films("123"), answers([{"items": [1, 2], "reason": reason}], "Heat"))
    (fill,) = [r.prompt for r in provider.requests if "title" in r.schema["properties"]]
    assert shown in fill
    assert "alien" not in fill.casefold()


@pytest.mark.parametrize(("score", "stands"), [(30, True), (29, False)])
def test_another_fill_is_scored_and_the_score_decides(tmp_path: Path, score: int, stands: bool) -> None:
    result, provider = run(tmp_path, films("123"), answers([_SPACE], "Heat", score))
    assert kinds(provider)["score"] == 1
    assert "guess: Heat" in next(r.prompt for r in provider.requests if "score" in r.schema["properties"])
    assert chains(result.graph, REASONING) == ([("u1", ("i1", "i2"), 0.3)] if stands else [])
    assert {k: r.count for k, r in result.summary.rejects.items()} == ({} if stands else {"low_score": 1})


def test_imagined_items_are_grounded_verified_and_new_to_the_user(tmp_path: Path) -> None:
    graph = films("123", "12")
    titles = ("Solyaris", "Solaris (1972)", "Aliens", "Nowhere To Be Found")
    script = answers([{"items": [1, 2], "reason": "space"}], "none of them", 70, titles)
    result, _ = run(tmp_path, graph, script, n_imagined=4, min_similarity=0.5)
    assert chains(result.graph, DIVERGENCE) == [
        ("u1", ("i1", "i2", "i6"), 0.7), ("u2", ("i1", "i2", "i3"), 0.7), ("u2", ("i1", "i2", "i6"), 0.7),
    ]  # fmt: skip
    imagined = [m for m in result.graph.members.to_pylist() if m["role"] == "imagined"]
    assert {m["position"] for m in imagined} == {2}
    found = {k: r.count for k, r in result.summary.rejects.items()}
    assert found == {"duplicate": 1, "known_to_user": 1, "not_in_catalogue": 1}


def test_later_steps_ask_the_encoder_of_the_method(tmp_path: Path) -> None:
    script = answers([{"items": [1, 2], "reason": "space"}], "Alien", titles=("The ocean planet",))
    method = LLMRG(LLMRG.Config(min_interactions=2, n_rounds=2, min_meaning=0.9))
    method.encode = lambda some: np.array([[1.0, 9.0 * ("planet" in s or s == "solaris")] for s in some], np.float32)
    result = extract_steps(method, films("123"), Scripted(Scripted.Config(), script), tmp_path / "ledger")
    assert chains(result.graph, DIVERGENCE) == [("u1", ("i1", "i2", "i6"), 0.8)]


def test_one_chain_of_many_users_is_verified_and_extended_once(tmp_path: Path) -> None:
    result, provider = run(tmp_path, films(*["123"] * 5), answers([_SPACE], "Alien"))
    assert len(chains(result.graph, REASONING)) == 5
    assert kinds(provider) == {"chains": 1, "title": 1, "titles": 1}  # equal histories are equal questions, too


def test_the_knowledge_base_answers_for_users_of_later_groups(tmp_path: Path) -> None:
    graph = films("1234", "125", "12")
    script = answers([{"items": [1, 2], "reason": "space"}], "Alien")
    (tmp_path / "a").mkdir()
    result, provider = run(tmp_path, graph, script, n_rounds=3, n_imagined=0)
    assert kinds(provider) == {"chains": 1, "title": 1}
    assert [(user, items) for user, items, _ in chains(result.graph, REASONING)] == [
        (user, ("i1", "i2")) for user in ("u1", "u2", "u3")
    ]
    alone, provider = run(tmp_path / "a", graph, script, n_imagined=0)
    assert kinds(provider) == {"chains": 3, "title": 1}
    assert chains(alone.graph, REASONING) == chains(result.graph, REASONING)


def test_a_later_run_looks_up_what_an_earlier_one_stored(tmp_path: Path) -> None:
    first, _ = run(tmp_path, films("123"), answers([{"items": [1, 2], "reason": "space"}], "Alien"))
    known = concat(films("123", "124"), first.graph)
    second, provider = run(tmp_path, known, answers([]), max_users=2)
    assert kinds(provider) == {}
    assert ("u2", ("i1", "i2"), 1.0) in chains(second.graph, REASONING)


def test_an_unverified_chain_is_dropped_and_counted(tmp_path: Path) -> None:
    result, _ = run(tmp_path, films("123"), answers([_SPACE], "unknown"))
    assert result.graph.counts()["hyperedges"] == 0
    assert {k: r.count for k, r in result.summary.rejects.items()} == {"placeholder": 1, "unverified": 1}


def test_a_chain_that_was_set_aside_is_asked_about_and_counted_in_one_round_only(tmp_path: Path) -> None:
    good = answers([_SPACE], "none of them", 80)

    def failing(request: Request) -> str:
        return "no" if "score" in request.schema["properties"] else good(request)

    result, provider = run(tmp_path, films("123", "123", "123"), failing, n_rounds=3)
    s = result.summary
    assert kinds(provider) == {"chains": 1, "title": 1, "score": 3}, "three attempts"
    assert (s.set_aside, s.total) == (1, 5)
    assert s.set_aside_reasons["invalid_json"].count == 1
    assert s.cached + s.asked == s.total


def test_what_is_no_chain_is_rejected_with_its_reason() -> None:
    method = LLMRG(LLMRG.Config())
    unit = Unit("u1", {}, (("u1", "i1"), ("u1", "i2"), ("u1", "i3")))
    given = [
        {"items": [1, 2, 9], "reason": "a b"}, {"items": [2, 1], "reason": "again"}, {"items": [3, 3], "reason": "one"},
        {"items": [1, 3], "reason": "unknown"},
    ]  # fmt: skip
    facts = method.facts(LLMRG(LLMRG.Config(max_chains=4)).Reply.model_validate({"chains": given}), unit, films("123"))
    assert [r.reason for r in facts.rejected] == [
        *("unknown_number", "duplicate", "duplicate", "too_short", "placeholder")
    ]
    assert len(facts.rows["hyperedges"]) == 1


def test_only_the_pairs_that_a_prompt_shows_are_listed_as_shown(tmp_path: Path) -> None:
    result, _ = run(tmp_path, films("12", "34"), answers([_SPACE], "Heat", 90, ("Big",)))
    for source in result.graph.sources.to_pylist():
        assert {p["user_id"] for p in source["shown"]} <= {"u1", "u2"}
        assert all(p["item_id"] != "i5" for p in source["shown"])


def test_recorded_answers_become_a_graph_that_a_store_gives_back(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    key = Chain(("i1", "i2"), "").key
    extended = Chain(("i1", "i2", "i3"), "").key
    lines = [("u1", {"chains": [{"items": [1, 2], "reason": "space"}]}), ("u2", {"chains": []})]
    file.write_text("\n".join(json.dumps({"unit": u, "text": json.dumps(said)}) for u, said in lines), "utf-8")
    graph = films("12", "45")
    asked: list[str] = []

    class Recorded(Replay):
        async def complete(self, request: Request) -> Any:
            asked.append(request.unit_id)
            if request.unit_id in ("u1", "u2"):
                return await super().complete(request)
            said = {"title": "Alien", "titles": ["Aliens"], "score": 60}
            (field,) = request.schema["properties"]
            other = Scripted(Scripted.Config(), [json.dumps({field: said[field]})])
            return await other.complete(request)

    method = LLMRG(LLMRG.Config(min_interactions=2, n_rounds=1))
    result = extract_steps(method, graph, Recorded(Replay.Config(file)), tmp_path / "ledger")
    assert asked == ["u1", "u2", f"chain:{key}", f"chain:{key}", f"chain:{extended}", f"chain:{extended}"]
    whole = concat(graph, result.graph)
    store = MemoryStore(MemoryStore.Config())
    store.write(whole)
    assert store.read().equals(whole)
    counted = Counter(result.graph.hyperedges["relation"].to_pylist())
    assert counted == {REASONING: 1, DIVERGENCE: 1, CHAIN: 2}
    assert result.summary.facts["hyperedges"] == dict(counted)


@pytest.mark.parametrize(("name", "value"), [("n_items", 1), ("min_score", 101), ("min_similarity", 1.5)])
def test_a_value_out_of_range_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"`{name}` is {value}; expected a value from"):
        LLMRG.Config(**{name: value})
