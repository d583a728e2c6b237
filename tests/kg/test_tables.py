from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kg.errors import DuplicateIdError, SchemaError, UnknownIdError
from kg.tables import TABLES, check_references, conform, empty_table
from tests.toy import toy_graph


def triples(**changes: object) -> pa.Table:
    columns = {"head": ["a", "b"], "relation": ["r", "r"], "tail": ["c", "c"], "confidence": [1.0, 0.5]}
    columns |= {"source": ["s", "s"]}
    return pa.table({**columns, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_the_toy_graph_conforms_to_itself(name: str) -> None:
    table = toy_graph().tables()[name]
    assert conform(name, table).equals(table)
    assert conform(name, empty_table(name)).schema.equals(TABLES[name].schema)


def test_columns_are_ordered_cast_and_filled() -> None:
    given = pa.table({"type": ["T"], "entity_id": pa.array([7]), "name": pa.array(["n"]).dictionary_encode()})
    assert conform("entities", given).to_pylist() == [{"entity_id": "7", "type": "T", "name": "n", "text": None}]


def test_unknown_and_missing_columns_are_named() -> None:
    with pytest.raises(SchemaError, match="unknown table `entity`; did you mean `entities`"):
        conform("entity", empty_table("entities"))
    with pytest.raises(SchemaError, match="`triples` has an unknown column `confidense`; did you mean `confidence`"):
        conform("triples", triples(confidense=[1, 1]))
    with pytest.raises(SchemaError, match="`triples` lacks the column `tail`; got head, relation, confidence, source"):
        conform("triples", triples().drop_columns("tail"))


def test_wrong_types_and_nulls_are_named() -> None:
    with pytest.raises(SchemaError, match="column `confidence`: string does not convert to double: .*'high'"):
        conform("triples", triples(confidence=["high", "0.5"]))
    with pytest.raises(SchemaError, match="column `tail`: 1 values are missing, the first in row 1"):
        conform("triples", triples(tail=["c", None]))


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan"), float("inf")])
def test_a_confidence_outside_its_range_is_refused(value: float) -> None:
    with pytest.raises(SchemaError, match=rf"`confidence`, row 1: {value} is outside \[0, 1.0\]"):
        conform("triples", triples(confidence=[1.0, value]))


@pytest.mark.parametrize(("value", "said"), [(float("nan"), "nan"), (float("-inf"), "-inf"), (None, "None")])
def test_a_vector_that_is_not_finite_is_refused(value: float | None, said: str) -> None:
    rows = [
        {"entity_id": i, "kind": "minilm", "vector": v} for i, v in (("a", []), ("b", [1.0, 2.0]), ("c", [0.5, value]))
    ]
    with pytest.raises(SchemaError, match=f"`features`, row 2: the vector of `c` holds {said}; expected finite"):
        conform("features", pa.Table.from_pylist(rows))
    assert len(conform("features", pa.Table.from_pylist(rows[:2]))) == 2


def test_an_infinite_weight_is_refused() -> None:
    rows = [{"hyperedge_id": "h", "relation": "r", "weight": float("inf"), "source": "s"}]
    with pytest.raises(SchemaError, match=r"`weight`, row 0: inf is outside \[0, inf\)"):
        conform("hyperedges", pa.Table.from_pylist(rows))


def test_an_unknown_split_or_kind_is_refused() -> None:
    with pytest.raises(SchemaError, match="column `split` has `dev`; expected one of train, valid, test, unsplit"):
        conform("interactions", pa.table({"user_id": ["u"], "item_id": ["i"], "split": ["dev"]}))
    with pytest.raises(SchemaError, match="column `kind` has `human`; expected one of dataset, rule, llm"):
        conform("sources", pa.table({"source": ["s"], "kind": ["human"]}))


def test_double_keys_are_named() -> None:
    with pytest.raises(DuplicateIdError, match=r"1 keys .head, relation, tail, source. .*: `a \| r \| c \| s`"):
        conform("triples", triples(head=["a", "a"]))
    conform("triples", triples(head=["a", "a"], source=["s", "t"]))


@pytest.mark.parametrize("most_keys", [2**62, 1])
@given(rows=st.lists(st.tuples(*[st.sampled_from("ab")] * 3, st.sampled_from([None, 0, 1])), max_size=6))
def test_a_row_that_is_there_twice_is_found_whatever_way_is_taken(most_keys: int, rows: list[tuple[object]]) -> None:
    columns = dict(zip(TABLES["members"].key, zip(*rows, strict=True) if rows else [[]] * 4, strict=True))
    table = pa.table(
        {name: pa.array(list(values), TABLES["members"].schema.field(name).type) for name, values in columns.items()}
    )
    with patch("kg.tables._MOST_KEYS", most_keys):
        if len(set(rows)) == len(rows):
            assert len(conform("members", table)) == len(rows)
        else:
            with pytest.raises(DuplicateIdError, match=r"keys \(hyperedge_id, entity_id, role, position\) occur"):
                conform("members", table)


def test_unknown_ids_are_named() -> None:
    tables = toy_graph().tables()
    tables["triples"] = conform("triples", triples(source=["dataset:toy", "dataset:toy"]))
    with pytest.raises(UnknownIdError, match="`triples`, column `head`: 2 ids are not in entities: `a`, `b`"):
        check_references(tables)
    tables = toy_graph().tables()
    tables["texts"] = tables["texts"].set_column(0, tables["texts"].schema.field(0), pa.array(["item:5", "nobody"]))
    with pytest.raises(UnknownIdError, match="column `entity_id`: 1 ids are not in entities or hyperedges: `nobody`"):
        check_references(tables)
