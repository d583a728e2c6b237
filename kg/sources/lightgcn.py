"""LightGCN lists: train.txt, test.txt and perhaps valid.txt, one user and its items a line."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kg.assemble import Assembly, entity_table, raw_id
from kg.delimited import locate, plain_name, read_lists, require, write_lists
from kg.errors import SplitError
from kg.files import atomic_directory
from kg.graph import Graph
from kg.ids import IdMap
from kg.remap import Ints, Remap, read_remap, write_remap
from kg.source import ReadReport, Source, left_out
from kg.terms import ITEM, SPLITS, TEST, TRAIN, UNSPLIT, USER


class LightGCN(Source, name="lightgcn"):
    """A folder with the lists of NGCF and LightGCN; the split is the given one.

    user_list.txt and item_list.txt (org_id remap_id) are optional: with them ids come from org_id, without them from
    the numbers. Written folders have all lists; they hold users, items and split pairs, no time, value, text or fact.
    """

    @dataclass(frozen=True)
    class Config:
        """What the data set is called.

        Attributes:
            name: of the data set; empty takes the name of the folder.
        """

        name: str = ""

    config: Config

    def read_with_report(self, path: Path) -> tuple[Graph, ReadReport]:
        """Read a folder of lists; see `Source.read_with_report`."""
        folder = Path(path)
        made = Assembly(self.config.name or plain_name(folder))
        users = read_remap(locate(folder, "user_list.txt"))
        items = read_remap(locate(folder, "item_list.txt"))
        read_split_lists(made, folder, users, items)
        describe_listed(made, items, ITEM)
        return made.finish()

    def write(self, graph: Graph, path: Path) -> dict[str, int]:
        """Write a folder of lists; see `Source.write`."""
        items = IdMap.sorted(graph.ids_of(ITEM))
        with atomic_directory(path) as folder:
            write_split_lists(folder, graph, items)
            named = graph.names()
            write_remap(folder / "item_list.txt", [raw_id(i, ITEM) for i in items.ids], [named[i] for i in items.ids])
        return left_out(graph, "interactions")


def read_split_lists(made: Assembly, folder: Path, users: Remap, items: Remap) -> Ints:
    """Read train.txt, valid.txt (optional) and test.txt into an assembly, and the users that they and a list name.

    Returns:
        The numbers of all items that occur, distinct and sorted.

    Raises:
        FileFormatError: if train.txt or test.txt is missing, or a token is no whole number.
        UnknownIdError: if a list is there and lacks a number.
    """
    seen: list[Ints] = []
    present: list[pa.Array] = []
    for split in SPLITS:
        file = locate(folder, f"{split}.txt") if split not in (TRAIN, TEST) else require(folder, f"{split}.txt")
        if file is None:
            continue
        first, user, item = read_lists(file)
        present.append(users.ids(first, lambda raw: f"user:{raw}", file))
        made.interactions.append(
            pa.table(
                {
                    "user_id": users.ids(user, lambda raw: f"user:{raw}", file),
                    "item_id": items.ids(item, lambda raw: f"item:{raw}", file),
                    "split": pa.repeat(pa.scalar(split), len(user)),
                }
            )
        )
        seen.append(item)
    describe_listed(made, users, USER)
    made.describe(entity_table(pc.unique(pa.chunked_array(present)), USER))
    return np.unique(np.concatenate(seen))


def describe_listed(made: Assembly, listed: Remap, entity_type: str) -> None:
    """Describe every user or item of a list, whether or not it occurs elsewhere."""
    ids = pa.array([f"{entity_type.lower()}:{raw}" for raw in listed.raw.values()], pa.string())
    made.describe(entity_table(ids, entity_type, [listed.name(number) for number in listed.raw]))


def write_split_lists(folder: Path, graph: Graph, items: IdMap) -> None:
    """Write train.txt, valid.txt (unless empty), test.txt and user_list.txt.

    Raises:
        SplitError: if interactions have no split, or none is in train or test.
    """
    if len(graph.interactions_of(UNSPLIT)):
        msg = "the lists need a split and some interactions have none (`unsplit`); split the graph first"
        raise SplitError(msg)
    users = IdMap.sorted(graph.ids_of(USER))
    write_remap(folder / "user_list.txt", [raw_id(u, USER) for u in users.ids])
    for split in SPLITS:
        part = graph.interactions_of(split)
        if not len(part) and split in (TRAIN, TEST):
            msg = f"the lists need interactions in train and test, and `{split}` has none; split the graph otherwise"
            raise SplitError(msg)
        if len(part):
            pairs = [users.to_idx(part["user_id"].to_pylist()), items.to_idx(part["item_id"].to_pylist())]
            write_lists(folder / f"{split}.txt", pairs[0].tolist(), pairs[1].tolist())
