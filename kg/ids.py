"""`IdMap`: the bridge between external ids and contiguous indices."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

from kg.errors import DuplicateIdError, UnknownIdError, first_five


@dataclass(frozen=True)
class IdMap:
    """A frozen, ordered set of ids; the index of an id is its place.

    Raises:
        DuplicateIdError: if an id occurs twice.

    Example:
        >>> ids = IdMap(("user:1", "user:2"))
        >>> int(ids.idx_of("user:2")), ids[0]
        (1, 'user:1')
    """

    ids: tuple[str, ...]
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Build the lookup and check that ids are unique."""
        index = {name: i for i, name in enumerate(self.ids)}
        if len(index) != len(self.ids):
            twice = [name for i, name in enumerate(self.ids) if index[name] != i]
            msg = f"{len(twice)} ids occur more than once: {first_five(twice)}; give each entity its own id"
            raise DuplicateIdError(msg)
        object.__setattr__(self, "_index", index)

    @classmethod
    def sorted(cls, ids: Iterable[str]) -> Self:
        """Build a map of distinct ids in sorted order, the same for any order of `ids`."""
        return cls(tuple(sorted(set(ids))))

    def __len__(self) -> int:
        """Return the number of ids."""
        return len(self.ids)

    def __getitem__(self, idx: int) -> str:
        """Return the id at an index."""
        return self.ids[idx]

    def __contains__(self, name: object) -> bool:
        """Say whether an id is known."""
        return name in self._index

    def idx_of(self, name: str) -> int:
        """Return the index of one id.

        Raises:
            UnknownIdError: if the id is unknown.
        """
        if name not in self._index:
            msg = f"unknown id `{name}` (of {len(self)} known); check its spelling and prefix, e.g. `{self._sample()}`"
            raise UnknownIdError(msg)
        return self._index[name]

    def to_idx(self, names: Sequence[str]) -> npt.NDArray[np.int64]:
        """Map ids to indices, (n,) int64.

        Raises:
            UnknownIdError: naming the first five unknown ids.
        """
        index = self._index
        found = np.fromiter((index.get(name, -1) for name in names), dtype=np.int64, count=len(names))
        if (found < 0).any():
            unknown = [names[int(i)] for i in np.flatnonzero(found < 0)]
            msg = f"{len(unknown)} ids are unknown: {first_five(unknown)}; they were mapped with another IdMap"
            raise UnknownIdError(msg)
        return found

    def to_ids(self, idx: npt.ArrayLike) -> list[str]:
        """Map indices, (n,) int, to ids.

        Raises:
            UnknownIdError: if an index is negative or too large.
        """
        flat = np.asarray(idx, dtype=np.int64).ravel()
        outside = flat[(flat < 0) | (flat >= len(self))]
        if len(outside):
            shown = first_five(outside.tolist())
            msg = f"{len(outside)} indices are outside 0 .. {len(self) - 1}: {shown}; use the IdMap that made them"
            raise UnknownIdError(msg)
        return [self.ids[i] for i in flat.tolist()]

    def _sample(self) -> str:
        return self.ids[0] if self.ids else "none"
