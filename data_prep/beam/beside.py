"""Content of users and items that stands beside the interactions, as `data_prep.beside` chooses it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.beam.content import KEY, POSITION, content_table
from data_prep.beam.join import CoShuffle, by_hash
from data_prep.beam.tables import ShuffleByHash
from data_prep.config import EntityConfig
from data_prep.sources import Part, Source, read_part
from data_prep.validate import first_positions

_SOURCE = "__source_"
_ORDER = ("split", "timestamp", "position")


class ReadColumns(beam.PTransform):
    """A pipeline → PCollection[pa.Table]: columns of all rows of a source, whose names get a prefix, and `POSITION`."""

    def __init__(self, source: Source, columns: Sequence[str]) -> None:
        """Takes what to read."""
        super().__init__()
        self._source, self._columns = source, tuple(columns)

    def expand(self, pipeline: Any) -> beam.PCollection:
        """Reads part by part."""
        return (
            pipeline
            | "Parts" >> beam.Create(self._source.parts)
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.FlatMap(_columns_of, self._columns).with_output_types(pa.Table)
        )


class ContentBeside(beam.PTransform):
    """Split interactions and the rows of `ReadColumns` → PCollection[pa.Table] of `content_schema`, a row per id.

    An id whose row is not among those that were read does not come out.
    """

    def __init__(self, kind: str, config: EntityConfig, num_partitions: int) -> None:
        """Takes `user` or `item`, its configuration, and how many tables there are at most."""
        super().__init__()
        self._kind, self._config, self._num_partitions = kind, config, num_partitions

    def expand(self, sides: Any) -> beam.PCollection:
        """Chooses a position for each id, and brings what stands there to it."""
        rows, read = sides
        telling = (
            rows
            | "Earliest in part" >> beam.Map(_telling_rows, self._kind)
            | "Rows of an id" >> ShuffleByHash([self._kind], self._num_partitions)
            | "Earliest" >> beam.Map(_telling_rows, self._kind)
        )
        partition = by_hash(POSITION, num_partitions=self._num_partitions)
        named = telling | "Name" >> beam.Map(_named, self._kind).with_output_types(pa.Table)
        return (named, read) | "Content" >> CoShuffle(partition, partition, _Content(self._config))


@dataclass(frozen=True)
class _Content:
    config: EntityConfig

    def __call__(self, telling: pa.Table | None, read: pa.Table | None) -> pa.Table | None:
        """Takes the rows at the ids' positions."""
        if telling is None or read is None:
            return None
        telling = telling.filter(pc.is_in(telling[POSITION], value_set=read[POSITION]))
        rows = read.take(pc.index_in(telling[POSITION], value_set=read[POSITION])).drop_columns([POSITION])
        rows = rows.rename_columns([name.removeprefix(_SOURCE) for name in rows.column_names])
        return content_table(telling[KEY], telling[POSITION], rows, self.config)


def _columns_of(part: Part, columns: Sequence[str]) -> Iterator[pa.Table]:
    for batch in read_part(part, columns):
        table = batch.table.rename_columns([_SOURCE + name for name in batch.table.column_names])
        yield table.append_column(POSITION, pa.array(batch.positions))


def _telling_rows(rows: pa.Table, kind: str) -> pa.Table:
    """Of each id the earliest row of the first split that it is in."""
    rows = rows.select([kind, *_ORDER]).sort_by([(name, "ascending") for name in _ORDER])
    return rows.take(first_positions(rows[kind].combine_chunks()))


def _named(rows: pa.Table, kind: str) -> pa.Table:
    return pa.table({KEY: rows[kind], POSITION: rows["position"]})
