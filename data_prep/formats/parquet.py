"""Parquet files, row batch by row batch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.formats.batch import Part, RawBatch, Source, require
from data_prep.formats.text import plain_type, text_batch
from recsys.artifacts import sha256_of
from recsys.errors import SourceError

BATCH_ROWS = 1 << 17


class Parquet:
    """Values keep their types, but for bytes, which become text, and dictionaries, which are decoded."""

    def open(self, spec: str, parts: tuple[Part, ...]) -> Source:
        """Reads the schema of the first file."""
        with _open(parts[0]) as file:
            return Source(spec, parts, tuple(file.schema_arrow.names))

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
                yield text_batch(part, pa.Table.from_batches([batch]).select(list(columns)), first_row)
                first_row += batch.num_rows

    def _types(self, part: Part, columns: Sequence[str]) -> list[pa.DataType]:
        with _open(part) as file:
            schema = file.schema_arrow
        require(part.location, columns, schema.names)
        return [plain_type(schema.field(name).type) for name in columns]


@contextmanager
def _open(part: Part) -> Iterator[pq.ParquetFile]:
    """Opens a file; what goes wrong with it, also later, becomes one line."""
    try:
        with pq.ParquetFile(part.location) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{part.location} is no readable Parquet: {' '.join(str(error).split())}") from error
