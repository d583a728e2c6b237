"""The contract of a recording: answers that somebody else paid for become a graph, through the engine like any other.

So they are counted, checked for leaks before anything is read into a graph, and kept in the ledger with their model.
"""

import csv
import gzip
import io
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from extract.engine import EngineConfig, Extraction, extract
from extract.method import Method, Unit
from extract.providers.replay import Replay
from kg.errors import FileFormatError
from kg.graph import Graph
from kg.progress import Progress, silent
from kg.terms import TRAIN


class Recording(Method, package="extract.recordings"):
    """One published set of answers; a member is one file.

    A member reads the answers (`answers`), says which train interactions the model saw (`shown`), and makes rows of an
    answer (`facts`) as a method of its kind does. Files may be gzipped, with `.gz` behind their names.

    Args:
        folder: where the files are.

    Attributes:
        model: who answered, as the publishers name it.
        asked: who asked, with the commit of the published files.
    """

    prompt = "recorded.v1"
    model: ClassVar[str]
    asked: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        super().__init__(None)
        self.folder = folder

    @abstractmethod
    def dataset(self) -> Graph:
        """Return the data set that the answers speak of, from the files beside them; split where its publishers did.

        Raises:
            FileFormatError: if a file is missing or of another form.
        """

    @abstractmethod
    def answers(self, graph: Graph) -> Mapping[str, str]:
        """Return the answers, as JSON of the form `Reply`, by unit.

        Raises:
            FileFormatError: if a file is missing or of another form.
        """

    @abstractmethod
    def shown(self, graph: Graph) -> Mapping[str, tuple[tuple[str, str], ...]]:
        """Return, by unit, the interactions that the model saw; a unit that is missing saw none."""

    def units(self, graph: Graph) -> Iterator[Unit]:
        """Yield a unit for each answer, in the order of the units' names.

        Args:
            graph: the data set that the answers speak of.
        """
        shown = self.shown(graph)
        for unit in sorted(self.answers(graph)):
            yield Unit(unit, {"asked": self.asked, "unit": unit}, shown.get(unit, ()))


def replay(
    recording: Recording,
    graph: Graph,
    ledger_path: Path,
    config: EngineConfig | None = None,
    progress: Progress = silent,
) -> Extraction:
    """Make a graph of recorded answers.

    Args:
        recording: the answers.
        graph: the data set that they speak of, split.
        ledger_path: where they are kept.
        config: `max_units` limits them; nothing is paid.
        progress: told after every unit.

    Raises:
        LeakError: if the model saw an interaction that is not in train.
        FileFormatError: if a file is missing or of another form.
    """
    provider = Replay.of(recording.answers(graph), recording.model)
    return extract(recording, graph, provider, ledger_path, config or EngineConfig(), progress)


def train_pairs(graph: Graph, prefix: str = "") -> dict[str, tuple[tuple[str, str], ...]]:
    """Return the train interactions of each user, for a model that saw a user's history.

    Args:
        graph: the data set, split.
        prefix: what comes before the user's id in the name of a unit.
    """
    train = graph.interactions_of(TRAIN)
    pairs: dict[str, list[tuple[str, str]]] = {}
    for user, item in zip(train["user_id"].to_pylist(), train["item_id"].to_pylist(), strict=True):
        pairs.setdefault(prefix + user, []).append((user, item))
    return {unit: tuple(sorted(shown)) for unit, shown in pairs.items()}


def read_text(folder: Path, name: str) -> str:
    """Read a UTF-8 file of a folder, plain or gzipped.

    Raises:
        FileFormatError: if it is missing or cannot be read.
    """
    for path in (folder / name, folder / f"{name}.gz"):
        try:
            data = path.read_bytes()
            return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
        except FileNotFoundError:
            continue
        except (OSError, EOFError, UnicodeDecodeError) as error:
            msg = f"`{path}` cannot be read: {error}; fetch it again"
            raise FileFormatError(msg) from error
    msg = f"there is neither `{name}` nor `{name}.gz` in `{folder}`; give the folder of the published files"
    raise FileFormatError(msg)


def read_rows(folder: Path, name: str, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Read a CSV file with a header.

    Raises:
        FileFormatError: if it is missing, cannot be read or lacks a column.
    """
    reader = csv.DictReader(io.StringIO(read_text(folder, name)))
    missing = [c for c in columns if c not in (reader.fieldnames or ())]
    if missing:
        found = ", ".join(reader.fieldnames or ()) or "no header"
        msg = f"`{folder / name}` has no column `{missing[0]}`; found {found}: it is another file, or another version"
        raise FileFormatError(msg)
    return list(reader)
