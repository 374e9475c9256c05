"""JSON lines, plain or gzip: an object per line, its keys the columns.

Scalars become their JSON text, so that the integer 7 is the id "7" and nothing is rounded. A column holds lists where
the first value that is not null, among the first thousand lines of the files in their order, is a list; its scalars
then are lists of one. An absent key is null. Refused are lines that hold no object, and values that a column cannot
take: objects, lists within lists, lists in a column of scalars. So are lines in which an object has a key twice: which
of the values is meant, nobody knows.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from data_prep.formats import byte_files
from data_prep.formats.batch import Part, RawBatch, Refused, Source, raw_batch, require
from data_prep.formats.byte_files import open_bytes, refuse_endless
from data_prep.formats.row_ends import INVALID_UTF8
from recsys.artifacts import sha256_of
from recsys.errors import SourceError

_LINES_TO_INFER_FROM = 1000

_SURROGATE = re.compile("[\ud800-\udfff]")


class _RefusedError(Exception):
    """Why a line is no row."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _RefusedError("repeated key")
    return found


# Numbers stay as written, and NaN and infinities, which are no JSON, are missing; strings, lists and objects have types
# of their own.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=lambda _: None, object_pairs_hook=_object)


class JsonLines:
    """An object per line."""

    def open(self, spec: str, parts: tuple[Part, ...]) -> Source:
        """Looks at the first lines of every file: no header tells the columns."""
        first_value: dict[str, Any] = {}
        for part in parts:
            for record in _first_records(part):
                for name, value in record.items():
                    if first_value.get(name) is None:
                        first_value[name] = value
        if not first_value:
            raise SourceError(
                f"{spec} holds no JSON object in the first {_LINES_TO_INFER_FROM} lines: expected one on each line"
            )
        lists = tuple(name for name, value in first_value.items() if isinstance(value, list))
        return Source(spec, tuple(replace(part, list_columns=lists) for part in parts), tuple(first_value))

    def check(self, source: Source, columns: Sequence[str]) -> None:
        """A key that one file lacks is null there; one that all lack is a mistake."""
        require(source.spec, columns, source.columns)

    def fingerprint(self, part: Part) -> str:
        """The digest of the file."""
        return sha256_of(Path(part.location))

    def read(self, part: Part, columns: Sequence[str]) -> Iterator[RawBatch]:
        """Reads block after block."""
        shapes = {name: name in part.list_columns for name in columns}
        with open_bytes(part.location) as file:
            first_row = 0
            for lines in _blocks_of_lines(part.location, file):
                yield _batch(part, lines, shapes, first_row)
                first_row += len(lines)


def _batch(part: Part, lines: list[bytes], shapes: dict[str, bool], first_row: int) -> RawBatch:
    """Reads columns, of which `shapes` says whether they hold lists."""
    columns: list[list[Any]] = [[] for _ in shapes]
    numbers: list[int] = []
    refused: list[Refused] = []
    for number, line in enumerate(lines):
        try:
            record = _record(line)
            row = [_value(name, record.get(name), is_list) for name, is_list in shapes.items()]
        except _RefusedError as reason:
            refused.append(Refused(number, line.decode("utf-8", "replace"), str(reason)))
            continue
        numbers.append(number)
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    types = [pa.list_(pa.string()) if is_list else pa.string() for is_list in shapes.values()]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
    table = pa.table(arrays, names=list(shapes))
    return raw_batch(part, table, np.array(numbers, np.int64), refused, first_row)


def _blocks_of_lines(location: str, file: BinaryIO) -> Iterator[list[bytes]]:
    """Lines without their ends; empty ones are no rows."""
    pending = b""
    while chunk := file.read(byte_files.BLOCK_BYTES):
        *whole, pending = (pending + chunk).split(b"\n")
        refuse_endless(location, len(pending))
        if lines := [line for line in whole if line.strip()]:
            yield lines
    if pending.strip():
        yield [pending]


def _first_records(part: Part) -> Iterator[dict[str, Any]]:
    with open_bytes(part.location) as file:
        lines = (line for block in _blocks_of_lines(part.location, file) for line in block)
        for line in islice(lines, _LINES_TO_INFER_FROM):
            try:
                yield _record(line)
            except _RefusedError:
                continue  # it will be refused when it is read


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = _DECODER.decode(line.decode())
    except UnicodeDecodeError as error:
        raise _RefusedError(INVALID_UTF8) from error
    except (ValueError, RecursionError) as error:
        raise _RefusedError("no JSON object") from error
    if not isinstance(record, dict):
        raise _RefusedError("no JSON object")
    return record


def _value(name: str, value: Any, is_list: bool) -> Any:
    if value is None:
        return None
    if is_list:
        return [_scalar(name, part) for part in (value if isinstance(value, list) else [value])]
    return _scalar(name, value)


def _scalar(name: str, value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is not None and not isinstance(value, str):
        raise _RefusedError(f"nested value in {name}")
    if value is not None and not value.isascii() and _SURROGATE.search(value):
        raise _RefusedError(f"half a surrogate pair in {name}")
    return value
