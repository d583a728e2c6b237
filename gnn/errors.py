"""Errors of `gnn`.

GnnError
├── InputError (ValueError)          a graph, feature or batch that cannot be trained or evaluated on
├── IndexRangeError (IndexError)     a user, item or node index outside the graph
├── CheckpointError (ValueError)     a checkpoint of another model, graph or version, or a damaged one
├── MemoryNeedError (MemoryError)    the work needs more memory than there is; says how much
├── ContactError (ConnectionError)   another process of a common training died or hung
└── BarError (AssertionError)        a benchmark does not reach what is promised
"""


class GnnError(Exception):
    """Base of every error that `gnn` raises on purpose."""


class InputError(GnnError, ValueError):
    """A graph, feature or batch that cannot be trained or evaluated on."""


class IndexRangeError(GnnError, IndexError):
    """A user, item or node index outside the graph."""


class CheckpointError(GnnError, ValueError):
    """A checkpoint of another model, graph or version, or a damaged one."""


class MemoryNeedError(GnnError, MemoryError):
    """The work needs more memory than there is."""


class BarError(GnnError, AssertionError):
    """A benchmark does not reach what is promised."""


class ContactError(GnnError, ConnectionError):
    """Another process of a common training died or hung."""
