import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kg.errors import DuplicateIdError, UnknownIdError
from kg.ids import IdMap


@given(st.lists(st.text(max_size=5), unique=True), st.data())
def test_ids_and_indices_map_back_and_forth(names: list[str], data: st.DataObject) -> None:
    ids = IdMap(tuple(names))
    chosen = data.draw(st.lists(st.sampled_from(names))) if names else []
    idx = ids.to_idx(chosen)
    assert idx.dtype == np.int64
    assert ids.to_ids(idx) == chosen
    assert [ids[ids.idx_of(name)] for name in chosen] == chosen
    assert len(ids) == len(names)
    assert all(name in ids for name in names)


@given(st.lists(st.text(max_size=3)))
def test_sorted_maps_do_not_depend_on_order_or_repetition(names: list[str]) -> None:
    ids = IdMap.sorted(names)
    assert ids == IdMap.sorted(names[::-1] + names)
    assert list(ids.ids) == sorted(set(names))


def test_double_ids_are_named() -> None:
    with pytest.raises(DuplicateIdError, match="1 ids occur more than once: `a`; give each entity its own id"):
        IdMap(("a", "b", "a"))


def test_unknown_ids_are_named_with_an_example() -> None:
    with pytest.raises(UnknownIdError, match=r"unknown id `7` .of 1 known.; .* e.g. `user:7`"):
        IdMap(("user:7",)).idx_of("7")
    with pytest.raises(UnknownIdError, match="e.g. `none`"):
        IdMap(()).idx_of("7")
    with pytest.raises(UnknownIdError, match="7 ids are unknown: `1`, `2`, `3`, `4`, `5` and 2 more"):
        IdMap(("a",)).to_idx([*"1234567", "a"])


@pytest.mark.parametrize("idx", [-1, 2])
def test_an_index_outside_does_not_wrap_around(idx: int) -> None:
    with pytest.raises(UnknownIdError, match=f"1 indices are outside 0 .. 1: `{idx}`"):
        IdMap(("a", "b")).to_ids([0, idx])
