"""The words of the project, each written once.

A *triple* is (head, relation, tail); a *hyperedge* joins any number of members, each with a role and perhaps a
position; an *interaction* is one user acting on one item; *users* and *items* are entities. A *source* says where
a fact came from: a data set, a rule, or one reply of an LLM. `*_id` is an external string, `*_idx` a contiguous
integer, `*_index` a (2, n) tensor.
"""

from typing import Final

USER: Final = "User"
ITEM: Final = "Item"

TRAIN: Final = "train"
VALID: Final = "valid"
TEST: Final = "test"
UNSPLIT: Final = "unsplit"
SPLITS: Final = (TRAIN, VALID, TEST)

DATASET: Final = "dataset"
RULE: Final = "rule"
LLM: Final = "llm"
SOURCE_KINDS: Final = (DATASET, RULE, LLM)

INTERACTS: Final = "interacts"
"""Name of relation 0 of every `CollaborativeKG`."""

HEAD: Final = 0
RELATION: Final = 1
TAIL: Final = 2
"""Columns of an (n, 3) array of triples."""
