"""KGAT lists: train.txt and test.txt of LightGCN's form, and kg_final.txt, whose first entities are the items."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from kg.assemble import ENTITY, Assembly, entity_id, entity_table, raw_id
from kg.delimited import TextTable, locate, plain_name, read_delimited, require, write_columns
from kg.errors import WriteError
from kg.files import atomic_directory
from kg.graph import Graph
from kg.ids import IdMap
from kg.remap import Ints, Remap, read_remap, write_remap
from kg.source import ReadReport, Source, left_out
from kg.sources.lightgcn import describe_listed, read_split_lists, write_split_lists
from kg.terms import ITEM


class KGAT(Source, name="kgat"):
    """A folder with the lists of KGAT, KGIN, CIKGRec and others; the number of an item is its number as an entity.

    user_list, item_list, entity_list and relation_list (org_id remap_id [name]) are optional: without them ids come
    from the numbers, and relation 3 is `relation_3`. Items are those of item_list and those that users have.

    Written folders have all lists; they hold users, items, split pairs and triples, not the time and value of pairs,
    the confidence and source of triples, texts, or the types of other entities.
    """

    @dataclass(frozen=True)
    class Config:
        """What the data set is called and which file holds its triples.

        Attributes:
            name: of the data set; empty takes the name of the folder.
            facts: the file of triples; commas are between its cells if it ends in `.csv`.
        """

        name: str = ""
        facts: str = "kg_final.txt"

    config: Config

    def read_with_report(self, path: Path) -> tuple[Graph, ReadReport]:
        """Read a folder of lists with its knowledge graph; see `Source.read_with_report`."""
        folder = Path(path)
        name = self.config.facts
        comma = "," if name.endswith(".csv") else None
        facts = read_delimited(require(folder, name), comma, columns=["head", "relation", "tail"], header=False)
        made = Assembly(self.config.name or plain_name(folder))
        items = read_remap(locate(folder, "item_list.txt"))
        seen = read_split_lists(made, folder, read_remap(locate(folder, "user_list.txt")), items)
        describe_listed(made, items, ITEM)
        numbers = np.union1d(seen, np.fromiter(items.raw, np.int64, len(items.raw)))
        read_numbered_facts(made, folder, facts, numbers, items)
        return made.finish()

    def write(self, graph: Graph, path: Path) -> dict[str, int]:
        """Write a folder of lists with its knowledge graph; see `Source.write`."""
        items = IdMap.sorted(graph.ids_of(ITEM))
        with atomic_directory(path) as folder:
            write_split_lists(folder, graph, items)
            write_numbered_facts(folder, graph, items)
        return left_out(graph, "interactions", "triples")


def read_numbered_facts(made: Assembly, folder: Path, facts: TextTable, numbers: Ints, items: Remap) -> None:
    """Read triples of numbers into an assembly.

    Args:
        made: where they go.
        folder: may hold entity_list.txt and relation_list.txt.
        facts: columns head, relation, tail; a relation that is no number is a name.
        numbers: which entities are items.
        items: the ids behind the numbers of items.

    Raises:
        FileFormatError: if a cell is no whole number.
        UnknownIdError: if a list is there and lacks a number.
    """
    entities = read_remap(locate(folder, "entity_list.txt"))
    ends: dict[str, pa.Array] = {}
    for end in ("head", "tail"):
        number = facts.integers(end)
        is_item = np.isin(number, numbers)
        ids = np.empty(len(number), dtype=object)
        ids[is_item] = items.ids(number[is_item], lambda raw: f"item:{raw}", facts.path).to_numpy(zero_copy_only=False)
        others = entities.ids(number[~is_item], entity_id, facts.path)
        ids[~is_item] = others.to_numpy(zero_copy_only=False)
        ends[end] = pa.array(ids, pa.string())
    made.triples.append(pa.table({**ends, "relation": _relations(folder, facts)}))
    items_too = set(numbers.tolist())
    other = [n for n in entities.raw if n not in items_too]
    ids = pa.array([entity_id(entities.raw[n]) for n in other], pa.string())
    made.describe(entity_table(ids, ENTITY, [entities.name(n) for n in other]))


def write_numbered_facts(folder: Path, graph: Graph, items: IdMap) -> None:
    """Write kg_final.txt, item_list.txt, entity_list.txt and relation_list.txt; items are the first entities.

    Raises:
        WriteError: if there is no triple, or an id holds a blank.
    """
    if not len(graph.triples):
        msg = "cannot write `kg_final.txt`: the graph has no triples; write it as `lightgcn` lists"
        raise WriteError(msg)
    facts = graph.canonical().triples.group_by(["head", "relation", "tail"], use_threads=False).aggregate([])
    ends = {end: facts[end].to_pylist() for end in ("head", "tail")}
    others = IdMap.sorted(e for end in ends.values() for e in end if e not in items)
    entities = IdMap((*items.ids, *others.ids))
    relations = IdMap.sorted(facts["relation"].to_pylist())
    rows = [
        entities.to_idx(ends["head"]),
        relations.to_idx(facts["relation"].to_pylist()),
        entities.to_idx(ends["tail"]),
    ]
    columns = [[str(n) for n in column] for column in rows]
    write_columns(folder / "kg_final.txt", columns, titles=(), delimiter=" ")
    named = graph.names()
    write_remap(folder / "item_list.txt", [raw_id(i, ITEM) for i in items.ids], [named[i] for i in items.ids])
    write_remap(folder / "entity_list.txt", entities.ids, [named[e] for e in entities.ids])
    write_remap(folder / "relation_list.txt", relations.ids)


def _relations(folder: Path, facts: TextTable) -> pa.Array:
    names = facts.column("relation")
    if not names[0].as_py().isdigit():
        return names
    listed = read_remap(locate(folder, "relation_list.txt"))
    return listed.ids(facts.integers("relation"), lambda r: f"relation_{r}" if r.isdigit() else r, facts.path)
