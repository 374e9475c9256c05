"""What every format has in common: parts, batches of rows, and rows that could not be divided into columns."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys.errors import SourceError

# Row numbers within a part stay below 2 ** 40, so that positions of different parts never meet.
ROW_BITS = 40
REFUSED_SCHEMA = pa.schema([("position", pa.int64()), ("text", pa.string()), ("reason", pa.string())])

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RawBatch:
    """Some rows of a source.

    Attributes:
      table: the asked columns, in the asked order. Delimited text gives strings as written ("007", "NA" and "" stay),
        JSON lines give strings or lists of strings, Parquet and TFDS their own types; a missing value is null.
      positions: [num_rows] int64, growing: where each row stands in its source, `(part.number << 40)` + its number
        within the part. Refused rows use up numbers too.
      refused: rows that could not be divided into columns: `position` (int64), `text` (the row as it came,
        undecodable bytes replaced) and `reason`.
    """

    table: pa.Table
    positions: Integers
    refused: pa.Table


@dataclass(frozen=True)
class Part:
    """A share of a source that can be read on its own, anywhere: a file, or a range of generated rows.

    Attributes:
      format: a key of `data_prep.sources.FORMATS`.
      location: a path, or what to generate.
      number: its place among the parts of the source.
      list_columns: of JSON lines, the columns whose values are lists: decided once for all parts.
      promoted: of Parquet, the types of columns that parts hold as different numbers: decided once for all parts.
    """

    format: str
    location: str
    number: int
    list_columns: tuple[str, ...] = ()
    promoted: tuple[tuple[str, pa.DataType], ...] = ()


@dataclass(frozen=True)
class Source:
    """Where rows come from.

    Attributes:
      spec: as the user wrote it.
      parts: in the order of their rows.
      columns: the names of the columns.
    """

    spec: str
    parts: tuple[Part, ...]
    columns: tuple[str, ...]


class Format(Protocol):
    """One way that rows are stored; one suite of tests holds for all."""

    def check(self, source: Source, columns: Sequence[str]) -> None:
        """Raises SourceError unless all parts have the columns, with one type each."""

    def read(self, part: Part, columns: Sequence[str]) -> Iterator[RawBatch]:
        """Reads the columns of a part; raises SourceError when it cannot be read to its end."""

    def fingerprint(self, part: Part) -> str:
        """Changes when the content of the part does."""


class FileFormat(Format, Protocol):
    """A format of files."""

    def open(self, spec: str, parts: tuple[Part, ...]) -> Source:
        """Reads the columns' names; raises SourceError when there are none."""


class Refused(NamedTuple):
    """A row that could not be divided into columns; `row` is its number within its batch."""

    row: int
    text: str
    reason: str


def raw_batch(part: Part, table: pa.Table, rows: Integers, refused: Iterable[Refused] = (), first: int = 0) -> RawBatch:
    """Makes a batch of rows that are numbered from the `first` of them, which is a number within the part."""
    offset = (part.number << ROW_BITS) + first
    ordered = sorted(refused)
    columns = [
        [offset + row for row, _, _ in ordered],
        [text for _, text, _ in ordered],
        [reason for _, _, reason in ordered],
    ]
    return RawBatch(table, rows + offset, pa.table(columns, REFUSED_SCHEMA))


def require(location: str, columns: Iterable[str], present: Iterable[str]) -> None:
    """Raises SourceError unless all columns are present."""
    if absent := sorted(set(columns) - set(present)):
        raise SourceError(f"{location} lacks the columns {', '.join(absent)}: it has {', '.join(sorted(present))}")
