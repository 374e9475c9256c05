"""The synthetic generator as a source: parts of a million rows, each drawn on its own."""

from collections.abc import Iterator, Sequence

import numpy as np

from data_prep.formats.batch import Part, RawBatch, Source, raw_batch, require
from data_prep.synthetic import CHUNK_ROWS, COLUMNS, generate_chunk, parse_options

PREFIX = "synthetic:"
CHUNKS_PER_PART = 8


class Synthetic:
    """A part's location is the whole specification; its number says which chunks are its own."""

    def open(self, spec: str) -> Source:
        """Divides the chunks among parts; raises ConfigError when an option is wrong."""
        num_parts = -(-parse_options(spec).num_chunks // CHUNKS_PER_PART)
        return Source(spec, tuple(Part("synthetic", spec, number) for number in range(num_parts)), COLUMNS)

    def check(self, source: Source, columns: Sequence[str]) -> None:
        """All parts have the same columns."""
        require(source.spec, columns, COLUMNS)

    def fingerprint(self, part: Part) -> str:
        """The specification, which is all that the rows depend on."""
        return part.location

    def read(self, part: Part, columns: Sequence[str]) -> Iterator[RawBatch]:
        """Draws chunk after chunk."""
        require(part.location, columns, COLUMNS)
        options = parse_options(part.location)
        first = part.number * CHUNKS_PER_PART
        for place, chunk in enumerate(range(first, min(first + CHUNKS_PER_PART, options.num_chunks))):
            table = generate_chunk(options, chunk, columns)
            yield raw_batch(part, table, np.arange(table.num_rows), first=place * CHUNK_ROWS)
