"""What every extraction method must do; each member runs this class."""

import json
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from extract.engine_config import EngineConfig
from extract.method import Facts, Method, Unit
from extract.providers.scripted import Scripted
from extract.quotes import ReplySources
from extract.steps import extract_steps
from extract.template import load_prompt
from kg.check import check
from kg.config import build_config
from kg.errors import ConfigError
from kg.graph import Graph, concat
from tests.extract.injections import HOSTILE
from tests.toy import toy_graph

_REVIEWS = Path(__file__).parent.parent / "toy_reviews.csv"
_TOY = {
    "llmhg": {"min_interactions": 2},
    "llmrg": {"min_interactions": 2, "n_rounds": 1},
    "sagcn": {"reviews": str(_REVIEWS)},
}
_SOURCE = {"source": "llm:test", "kind": "llm"}
_WORDS = st.one_of(
    st.text(),
    st.sampled_from(
        ["dark", "Dark ", "item:3", "1", "other", "unknown", "has_mood", "夜", "\u202e", "\ud800", "x" * 300]
    ),
)


class MethodContract:
    """Give `method_class`."""

    method_class: type[Method]

    def method(self) -> Method:
        return self.method_class(build_config(self.method_class.Config, _TOY.get(self.method_class.name, {})))

    def test_units_are_the_same_each_time_and_have_their_own_ids(self) -> None:
        graph = toy_graph()
        units = list(self.method().units(graph))
        assert units
        assert units == list(self.method().units(Graph.from_tables(**graph.tables())))
        assert units == list(self.method().units(_reversed(graph)))
        assert len({u.unit_id for u in units}) == len(units)

    def test_nothing_but_train_is_shown(self) -> None:
        graph = toy_graph()
        train = {(r["user_id"], r["item_id"]) for r in graph.interactions_of("train").to_pylist()}
        for unit in self.method().units(graph):
            assert set(unit.shown) <= train

    def test_units_do_not_depend_on_what_is_held_out(self) -> None:
        graph = toy_graph()
        train = graph.replace(interactions=graph.interactions_of("train"))
        assert list(self.method().units(train)) == list(self.method().units(graph))

    def test_every_unit_fits_the_prompt(self) -> None:
        prompt = load_prompt(self.method_class.prompt)
        assert prompt.name == self.method_class.name
        for unit in self.method().units(toy_graph()):
            assert len(prompt.render(unit.variables)) < 4_000

    def test_hostile_names_and_texts_stay_between_their_tags(self) -> None:
        prompt = load_prompt(self.method_class.prompt)
        tags = re.findall(r"[<>]", prompt.template.replace("%>", ""))
        for hostile in HOSTILE:
            for unit in self.method().units(_renamed(toy_graph(), hostile)):
                assert re.findall(r"[<>]", prompt.render(unit.variables)) == tags
                assert not re.search(r"[\u202e\u200b\u2066\x00\x1b]", prompt.render(unit.variables))
                break  # all items have the same words

    def test_the_schema_bounds_every_array_and_string(self) -> None:
        for node in _nodes(self.method().Reply.model_json_schema()):
            assert node.get("type") != "array" or "maxItems" in node, node
            assert node.get("type") != "string" or "enum" in node or "maxLength" in node, node
            assert node.get("type") != "object" or node.get("additionalProperties") is False, node

    @settings(
        max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors]
    )
    @given(data=st.data())
    def test_any_valid_reply_gives_rows_that_fit_the_tables(self, data: st.DataObject) -> None:
        method, graph = self.method(), toy_graph()
        unit = data.draw(st.sampled_from(list(method.units(graph))))
        reply = data.draw(replies(method.Reply))
        facts = method.facts(reply, unit, graph)
        assert facts == method.facts(reply, unit, graph)
        fragment = graph_of(facts, unit, graph)
        assert set(fragment.ids_of("Item")) == set(graph.ids_of("Item"))
        assert set(fragment.ids_of("User")) == set(graph.ids_of("User"))
        assert all(r.reason and re.fullmatch("[a-z_]+", r.reason) for r in facts.rejected)

    def test_facts_speak_of_their_unit_only(self) -> None:
        method, graph = self.method(), toy_graph()
        first, second, *_ = method.units(graph)
        reply = method.Reply.model_validate(_smallest(method.Reply.model_json_schema()))
        rows = method.facts(reply, first, graph).rows
        about = {t["head"] for t in rows.get("triples", [])}
        about |= {m["entity_id"] for m in rows.get("members", []) if m["role"] == "user"}
        assert about <= set(first.unit_id.split("|"))
        assert second.unit_id not in about

    @pytest.mark.parametrize("seed", range(4))
    def test_all_steps_make_a_graph_of_any_valid_replies(self, tmp_path: Path, seed: int) -> None:
        graph, random = toy_graph(), Random(seed)
        provider = Scripted(Scripted.Config(), lambda request: json.dumps(_any_reply(request.schema, random)))
        method = self.method()
        result = extract_steps(method, graph, provider, tmp_path / "ledger", EngineConfig(max_in_flight=1))
        s = result.summary
        assert s.total == s.done + s.empty + s.rejected > 0
        assert s.set_aside == 0
        assert check(concat(graph, result.graph)).is_clean
        again = extract_steps(self.method(), graph, provider, tmp_path / "ledger", EngineConfig(max_in_flight=1))
        assert again.graph.equals(result.graph)
        assert again.summary.asked == 0
        assert {load_prompt(stem).name for stem in (method.prompt, *method.later_prompts)} >= {
            p for p in result.graph.sources["prompt"].to_pylist() if p
        }

    def test_an_unknown_parameter_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="unknown parameter `max_itmes`"):
            build_config(self.method_class.Config, {"max_itmes": 3})

    def test_source_and_deviations_are_named(self) -> None:
        assert self.method_class.__doc__ is not None
        assert re.search(r"^\s*Source:\n", self.method_class.__doc__, re.MULTILINE)
        assert re.search(r"^\s*Deviations:\n", self.method_class.__doc__, re.MULTILINE)


def graph_of(facts: Facts, unit: Unit, base: Graph) -> Graph:
    """Validate the rows of one reply together with the data set they speak of; every quote must stand in the unit."""
    sourced, sources = ("triples", "hyperedges", "texts"), ReplySources(dict(_SOURCE), unit)
    rows = {t: [sources.cite(r) if t in sourced else r for r in given] for t, given in facts.rows.items()}
    assert not any(row is None for given in rows.values() for row in given)
    known = set(base.entities["entity_id"].to_pylist())
    new = [e for e in rows.get("entities", []) if e["entity_id"] not in known]
    rows["entities"] = [*base.entities.to_pylist(), *new]
    return concat(base, Graph.from_rows(**rows, sources=list(sources.rows.values())))


def replies(model: type[BaseModel]) -> st.SearchStrategy[BaseModel]:
    """Draw replies that the model accepts."""
    return _values(model.model_json_schema(), model.model_json_schema().get("$defs", {})).map(model.model_validate)


def _values(node: dict[str, Any], defs: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "$ref" in node:
        return _values(defs[node["$ref"].rpartition("/")[2]], defs)
    if "enum" in node:
        return st.sampled_from(node["enum"])
    if node["type"] == "object":
        return st.fixed_dictionaries({k: _values(v, defs) for k, v in node["properties"].items()})
    if node["type"] == "array":
        return st.lists(_values(node["items"], defs), min_size=node.get("minItems", 0), max_size=node["maxItems"])
    if node["type"] == "integer":
        return st.integers(-2, 60)
    cut = _WORDS.map(lambda text: text.encode("utf-8", "replace").decode()[: node["maxLength"]])
    return cut.filter(lambda text: len(text) >= node.get("minLength", 0))


def _smallest(schema: dict[str, Any]) -> Any:
    return _fill(schema, schema.get("$defs", {}))


def _fill(node: dict[str, Any], defs: dict[str, Any]) -> Any:
    if "$ref" in node:
        return _fill(defs[node["$ref"].rpartition("/")[2]], defs)
    if node["type"] == "object":
        return {k: _fill(v, defs) for k, v in node["properties"].items()}
    if node["type"] == "array":
        return [_fill(node["items"], defs)]
    return node["enum"][0] if "enum" in node else 1 if node["type"] == "integer" else "quiet"


def _any_reply(node: Any, random: Random, defs: Any = None) -> Any:
    """Return a reply that fits a JSON schema; names are now and then those of the toy graph."""
    defs = node.get("$defs", {}) if defs is None else defs
    if "$ref" in node:
        return _any_reply(defs[node["$ref"].rpartition("/")[2]], random, defs)
    if "enum" in node:
        return random.choice(node["enum"])
    if node["type"] == "object":
        return {k: _any_reply(v, random, defs) for k, v in node["properties"].items()}
    if node["type"] == "array":
        n = random.randint(node.get("minItems", 0), min(node["maxItems"], 4))
        return [_any_reply(node["items"], random, defs) for _ in range(n)]
    if node["type"] == "integer":
        return random.randint(node.get("minimum", 0), min(node.get("maximum", 4), 100))
    return random.choice([*"12345678", "item:3", "dark", "quiet", "mood dark", "unknown", "x" * node["maxLength"]])


def _renamed(graph: Graph, words: str) -> Graph:
    words = words.encode("utf-8", "replace").decode()
    rows = [{**row, "name": words or "x", "text": words} for row in graph.entities.to_pylist()]
    return graph.replace(entities=Graph.from_rows(entities=rows).entities)


def _nodes(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, list):
        return [found for child in node for found in _nodes(child)]
    if not isinstance(node, dict):
        return []
    return [node, *(found for child in node.values() for found in _nodes(child))]


def _reversed(graph: Graph) -> Graph:
    return Graph(**{name: table.take(list(range(len(table)))[::-1]) for name, table in graph.tables().items()})


def units_by_id(method: Method, graph: Graph) -> dict[str, Unit]:
    """Return a method's units by id."""
    return {u.unit_id: u for u in method.units(graph)}
