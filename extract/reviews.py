"""Reviews: what users wrote about items; only those of train interactions are handed out."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import csv, parquet

from extract.documents import clean
from extract.method import Rejected
from kg.errors import ConfigError, FileFormatError, did_you_mean
from kg.graph import Graph
from kg.terms import ITEM, TRAIN, USER

_PARSING = csv.ParseOptions(newlines_in_values=True)


@dataclass(frozen=True)
class Review:
    """One user's words about one item."""

    user: str
    item: str
    text: str


@dataclass(frozen=True)
class ReviewFile:
    """A CSV (perhaps gzipped) or Parquet file with a row a review.

    Attributes:
        path: the file.
        user: column of users; their ids in the graph are `user:` and this.
        item: column of items; their ids in the graph are `item:` and this.
        text: column of texts.
    """

    path: Path
    user: str
    item: str
    text: str

    def of_train(self, graph: Graph) -> tuple[list[Review], list[Rejected]]:
        """Return the reviews of train interactions that say something, by user and item, and which rows are none.

        What is said about one item by one user in several rows is joined, in the order of the file. Rows are rejected
        as `unknown_user`, `unknown_item` or `not_in_train`, pairs as `empty` (no word).

        Args:
            graph: the data set, split.

        Raises:
            ConfigError: if the file is absent.
            FileFormatError: if it cannot be read, a column is missing, or no row is of a train interaction.
        """
        train = graph.interactions_of(TRAIN)
        pairs = set(zip(train["user_id"].to_pylist(), train["item_id"].to_pylist(), strict=True))
        users, items = set(graph.ids_of(USER)), set(graph.ids_of(ITEM))
        said: dict[tuple[str, str], list[str]] = {}
        rejected = []
        columns = (self._read()[name].to_pylist() for name in (self.user, self.item, self.text))
        for user, item, text in zip(*columns, strict=True):
            pair = (f"user:{user}", f"item:{item}")
            if pair in pairs:
                said.setdefault(pair, []).append(text or "")
                continue
            unknown = "unknown_user" if pair[0] not in users else "unknown_item" if pair[1] not in items else ""
            rejected.append(Rejected(unknown or "not_in_train", ", ".join(pair)))
        if not said:
            raise FileFormatError(self._strange(rejected))
        cleaned = {pair: clean(" ".join(texts)) for pair, texts in sorted(said.items())}
        rejected += [Rejected("empty", ", ".join(pair)) for pair, text in cleaned.items() if not text]
        return [Review(user, item, text) for (user, item), text in cleaned.items() if text], rejected

    def _strange(self, rejected: list[Rejected]) -> str:
        counts = ", ".join(f"{reason} {n}" for reason, n in Counter(r.reason for r in rejected).items())
        first = f" ({counts}); the first is of `{rejected[0].what}`" if rejected else ""
        return (
            f"none of the {len(rejected)} rows of `{self.path}` is of a train interaction{first}; give the reviews of "
            "this data set, and the columns that hold its ids as `user` and `item`"
        )

    def _read(self) -> pa.Table:
        names = [self.user, self.item, self.text]
        try:
            if self.path.suffix == ".parquet":
                table = parquet.read_table(self.path)
            else:
                kinds = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
                table = csv.read_csv(self.path, parse_options=_PARSING, convert_options=kinds)
        except FileNotFoundError as error:
            msg = f"there are no reviews at `{self.path}`; give the path of a CSV or Parquet file as `reviews`"
            raise ConfigError(msg) from error
        except pa.ArrowInvalid as error:
            msg = f"`{self.path}` cannot be read: {error}; give a CSV file with a header, or a Parquet file"
            raise FileFormatError(msg) from error
        for name in names:
            if name not in table.column_names:
                msg = f"`{self.path}` has no column `{name}`; {did_you_mean(name, table.column_names)}"
                raise FileFormatError(msg)
        return table.select(names)
