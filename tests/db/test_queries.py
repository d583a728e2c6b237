"""Saved queries are found by name."""

import pytest

from db import load_query, saved_queries
from db.errors import QueryError


def test_each_saved_query_says_what_it_answers() -> None:
    found = saved_queries()
    assert {"facts_of_entity", "facts_by_model", "items_without_facts", "hyperedges_of_user"} <= set(found)
    assert all(answers.endswith(".") and "arameter" in answers for answers in found.values())


@pytest.mark.parametrize(
    ("name", "says"), [("facts_of_entty", "did you mean `facts_of_entity`"), ("../model", "no saved query")]
)
def test_an_unknown_query_is_named(name: str, says: str) -> None:
    with pytest.raises(QueryError, match=says):
        load_query(name)
