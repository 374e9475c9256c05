"""CSV and TSV, plain or gzip: Arrow's parser over blocks that are cut at row ends, no row lost.

Every row is either in a table or refused: with another number of columns than the header (a separator at its end
makes one more), undecodable anywhere, or with a quote that nothing closes. `row_ends` says how stray quotes are told
from values with line breaks. An empty line is no row.
"""

import codecs
import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from data_prep.formats import byte_files
from data_prep.formats.batch import Integers, Part, RawBatch, Refused, Source, raw_batch, require
from data_prep.formats.byte_files import is_utf8, open_bytes, refuse_endless
from data_prep.formats.row_ends import Division, RowEnds
from recsys.artifacts import sha256_of
from recsys.errors import SourceError

WRONG_ARITY = "wrong number of columns"
# A longer first line names no columns.
MAX_HEADER_BYTES = 1 << 20


@dataclass(frozen=True)
class Delimited:
    """Text whose first row names the columns.

    Attributes:
      separator: what stands between the columns.
    """

    separator: str

    def open(self, spec: str, parts: tuple[Part, ...]) -> Source:
        """Reads the header of the first file."""
        return Source(spec, parts, self._header_of(parts[0]))

    def check(self, source: Source, columns: Sequence[str]) -> None:
        """Reads the header of every file."""
        for part in source.parts:
            require(part.location, columns, self._header_of(part))

    def fingerprint(self, part: Part) -> str:
        """The digest of the file."""
        return sha256_of(Path(part.location))

    def read(self, part: Part, columns: Sequence[str]) -> Iterator[RawBatch]:
        """Reads block after block."""
        with open_bytes(part.location) as file:
            names, pending = self._header(part, file)
            require(part.location, columns, names)
            parser = _Parser(self.separator, names, columns)
            first_row, final = 0, False
            while not final:
                chunk = file.read(byte_files.BLOCK_BYTES)
                final = not chunk
                pending += chunk
                block = parser.parse(pending, final)
                pending = pending[block.end :]
                refuse_endless(part.location, len(pending))
                if block.num_rows:
                    yield raw_batch(part, block.table, block.rows, block.refused, first_row)
                first_row += block.num_rows

    def _header_of(self, part: Part) -> tuple[str, ...]:
        with open_bytes(part.location) as file:
            return self._header(part, file)[0]

    def _header(self, part: Part, file: BinaryIO) -> tuple[tuple[str, ...], bytes]:
        """Reads the columns' names; returns them and the bytes behind their line that were read too."""
        line, rest = _first_line(part.location, file)
        try:
            [names] = csv.reader([line.decode()], delimiter=self.separator, strict=True)
        except (UnicodeDecodeError, csv.Error, ValueError) as error:
            raise SourceError(f"{part.location} has an unreadable header ({error}): expected names in UTF-8") from error
        if "\0" in "".join(names):
            raise SourceError(
                f"{part.location} has NUL bytes in its header: expected UTF-8 text, no binary file or UTF-16"
            )
        if twice := sorted(name for name, count in Counter(names).items() if count > 1):
            raise SourceError(f"{part.location} names columns twice: {', '.join(twice)}; expected distinct names")
        return tuple(names), rest


def _first_line(location: str, file: BinaryIO) -> tuple[bytes, bytes]:
    """The first line that is not empty, and what was read behind it."""
    data = b""
    while chunk := file.read(min(byte_files.BLOCK_BYTES, 1 << 16)):
        data = (data + chunk).lstrip(b"\r\n")
        lines = data.splitlines(keepends=True)
        if lines and len(lines[0]) > MAX_HEADER_BYTES:
            raise SourceError(
                f"{location} has a first line of more than {MAX_HEADER_BYTES >> 20} MiB: expected a header row, the "
                "columns' names and a line break"
            )
        if len(lines) > 1 or data.endswith((b"\n", b"\r")):
            return lines[0].rstrip(b"\r\n"), data[len(lines[0]) :]
    if not data:
        raise SourceError(f"{location} is empty: expected a header row")
    return data, b""


@dataclass(frozen=True)
class _Block:
    """Parsed bytes: `rows` numbers the table's rows within the block, refused ones included in the count."""

    end: int
    table: pa.Table
    rows: Integers
    refused: list[Refused]

    @property
    def num_rows(self) -> int:
        return len(self.rows) + len(self.refused)


class _Parser:
    """Bytes to columns, for one header and one choice of columns."""

    def __init__(self, separator: str, names: Sequence[str], columns: Sequence[str]) -> None:
        self._separator = separator
        self._names = list(names)
        self._row_ends = RowEnds(separator, len(names))
        self._conversion = pa_csv.ConvertOptions(
            include_columns=list(columns),
            column_types=dict.fromkeys(columns, pa.string()),
            check_utf8=False,  # was checked for the whole block
            null_values=[],
            strings_can_be_null=False,
        )
        self._empty = pa.schema([(name, pa.string()) for name in columns]).empty_table()

    def parse(self, block: bytes, final: bool) -> _Block:
        """Parses the whole rows of a block that starts where a row starts."""
        end = self._row_ends.orderly_end(block, final)
        if end is not None and is_utf8(whole := block[:end]):
            table, refused = self._table(whole)
            # A row of several lines that has the wrong number of columns may be the work of a stray quote.
            if not any("\n" in text or "\r" in text for _, text, _ in refused):
                return _Block(end, table, _other_numbers(table.num_rows, refused), refused)
        return self._parse_divided(block, self._row_ends.divide(block, final))

    def _parse_divided(self, block: bytes, division: Division) -> _Block:
        accepted, numbers = division.accepted(block)
        table, misshapen = self._table(accepted)
        refused = [Refused(row, division.text(block, row), reason) for row, reason in division.reasons.items()]
        rows = numbers[_other_numbers(table.num_rows, misshapen)]
        return _Block(
            division.end, table, rows, refused + [row._replace(row=int(numbers[row.row])) for row in misshapen]
        )

    def _table(self, data: bytes) -> tuple[pa.Table, list[Refused]]:
        """Lets Arrow parse whole rows; those with another number of columns are numbered as it counts them."""
        refused: list[Refused] = []

        def refuse(row: pa_csv.InvalidRow) -> str:
            refused.append(Refused(row.number - 1, row.text, WRONG_ARITY))
            return "skip"

        if not data.lstrip(b"\r\n"):
            return self._empty, refused
        if data.startswith(codecs.BOM_UTF8):
            data = b"\n" + data  # in the middle of a file it is a value's own
        table = pa_csv.read_csv(
            pa.BufferReader(data),
            # One block: row numbers are known to a single thread only, and no row is cut.
            pa_csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=self._names),
            pa_csv.ParseOptions(delimiter=self._separator, invalid_row_handler=refuse),
            self._conversion,
        )
        return table, refused


def _other_numbers(num_rows: int, refused: Sequence[Refused]) -> Integers:
    """The numbers that are left to a table's rows."""
    return np.delete(np.arange(num_rows + len(refused)), [row.row for row in refused])
