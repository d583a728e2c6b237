"""The guard before the first request: no unit may show what is not in `train`."""

import numpy as np

from extract.method import Unit
from kg.errors import LeakError
from kg.graph import Graph
from kg.ids import IdMap
from kg.terms import TRAIN


class TrainPairs:
    """The (user, item) pairs of `train`, 8 bytes each.

    Args:
        graph: the data set, split.
    """

    def __init__(self, graph: Graph) -> None:
        train = graph.interactions_of(TRAIN)
        users, items = train["user_id"].to_pylist(), train["item_id"].to_pylist()
        self._users, self._items = IdMap.sorted(users), IdMap.sorted(items)
        self._codes = np.sort(self._users.to_idx(users) * max(len(self._items), 1) + self._items.to_idx(items))

    def check(self, unit: Unit) -> None:
        """Check that a unit shows train interactions only.

        Raises:
            LeakError: naming the unit and the first pair that is not in train.
        """
        for user, item in unit.shown:
            if not self._has(user, item):
                msg = (
                    f"unit `{unit.unit_id}` shows the interaction (`{user}`, `{item}`), which is not in `train` "
                    f"({len(self._codes)} pairs); nothing was sent. Split the data first, and let the method's `units` "
                    "show train interactions only"
                )
                raise LeakError(msg)

    def _has(self, user: str, item: str) -> bool:
        if user not in self._users or item not in self._items:
            return False
        code = self._users.idx_of(user) * len(self._items) + self._items.idx_of(item)
        place = int(np.searchsorted(self._codes, code))
        return place < len(self._codes) and int(self._codes[place]) == code
