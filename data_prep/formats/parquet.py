"""Parquet files, row batch by row batch.

Where files hold a column as different numbers, all hand it on as int64, or as float64 if one has fractions; a column of
nulls alone fits any type. Writers choose such types file by file, by the values they meet.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pat

from data_prep.formats.batch import Part, RawBatch, Source, require
from data_prep.formats.text import plain_type, text_batch
from recsys.artifacts import sha256_of
from recsys.errors import SourceError

BATCH_ROWS = 1 << 17


class Parquet:
    """Values keep their types, but for bytes, which become text, and dictionaries, which are decoded."""

    def open(self, spec: str, parts: tuple[Part, ...]) -> Source:
        """Reads the schemas of all files; the columns are those of the first."""
        schemas = [_schema(part) for part in parts]
        columns = tuple(schemas[0].names)
        kinds = {name: {_type(schema, name) for schema in schemas if name in schema.names} for name in columns}
        promoted = tuple(
            (name, common)
            for name, found in kinds.items()
            if len(found) > 1 and (common := _promoted(found)) is not None
        )
        return Source(spec, tuple(replace(part, promoted=promoted) for part in parts), columns)

    def check(self, source: Source, columns: Sequence[str]) -> None:
        """Compares the schemas of all files."""
        first = self._types(source.parts[0], columns)
        for part in source.parts[1:]:
            for name, here, there in zip(columns, self._types(part, columns), first, strict=True):
                if here != there:
                    raise SourceError(
                        f"{part.location} holds {name} as {here}, {source.parts[0].location} as {there}: "
                        "expected one type in all files"
                    )

    def fingerprint(self, part: Part) -> str:
        """The digest of the file."""
        return sha256_of(Path(part.location))

    def read(self, part: Part, columns: Sequence[str]) -> Iterator[RawBatch]:
        """Reads a row group piece by piece."""
        self._types(part, columns)
        with _open(part) as file:
            first_row = 0
            for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
                table = pa.Table.from_batches([batch]).select(list(columns))
                yield text_batch(part, _cast(part, table), first_row)
                first_row += batch.num_rows

    def _types(self, part: Part, columns: Sequence[str]) -> list[pa.DataType]:
        schema = _schema(part)
        require(part.location, columns, schema.names)
        return [dict(part.promoted).get(name, _type(schema, name)) for name in columns]


def _schema(part: Part) -> pa.Schema:
    with _open(part) as file:
        return file.schema_arrow


def _type(schema: pa.Schema, name: str) -> pa.DataType:
    return plain_type(schema.field(name).type)


def _promoted(kinds: Iterable[pa.DataType]) -> pa.DataType | None:
    """What holds the values of several types; None where nothing does."""
    some = {kind for kind in kinds if not pat.is_null(kind)}
    if len(some) == 1:
        return some.pop()
    if all(map(pat.is_integer, some)):
        return pa.int64()
    return pa.float64() if all(pat.is_integer(kind) or pat.is_floating(kind) for kind in some) else None


def _cast(part: Part, table: pa.Table) -> pa.Table:
    """Promotes columns; an integer that the type of all files cannot hold would become another id."""
    for name, kind in part.promoted:
        if name not in table.column_names or table[name].type == kind:
            continue
        try:
            column = table[name].cast(kind)
        except pa.ArrowInvalid as error:
            raise SourceError(
                f"{part.location} holds {name} as {table[name].type}, with values that the {kind} of all files cannot "
                "hold: expected one type in all files"
            ) from error
        table = table.set_column(table.column_names.index(name), name, column)
    return table


@contextmanager
def _open(part: Part) -> Iterator[pq.ParquetFile]:
    """Opens a file; what goes wrong with it, also later, becomes one line."""
    try:
        with pq.ParquetFile(part.location) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{part.location} is no readable Parquet: {' '.join(str(error).split())}") from error
