"""Arrow tables as the elements of a PCollection: how they travel, and how rows are brought together by key."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, as in Fibonacci hashing


class TableCoder(beam.coders.Coder):
    """Arrow's own stream format, compressed: unlike a pickle, a slice of a table takes no more than its rows."""

    def encode(self, value: pa.Table) -> bytes:
        """Serializes a table."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, value.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
            writer.write_table(value)
        return bytes(sink.getvalue())

    def decode(self, encoded: bytes) -> pa.Table:
        """Restores a table."""
        with pa.ipc.open_stream(encoded) as reader:
            return reader.read_all()

    def is_deterministic(self) -> bool:
        """Tables are values, never keys."""
        return False

    def to_type_hint(self) -> type:
        """The type whose elements travel so."""
        return pa.Table


beam.coders.registry.register_coder(pa.Table, TableCoder)


class ShuffleByHash(beam.PTransform):
    """Brings rows together that agree in some columns: PCollection[pa.Table] → PCollection[pa.Table].

    Each table of the result is one partition of all rows, and needs the memory of one: choose their number by the
    number of rows. Rows of a partition stand in no particular order.
    """

    def __init__(self, columns: Sequence[str], num_partitions: int) -> None:
        """Takes the int or string columns, and how many tables there are at most."""
        super().__init__()
        self._columns, self._num_partitions = tuple(columns), num_partitions

    def expand(self, tables: beam.PCollection) -> beam.PCollection:
        """Divides each table, and joins what belongs together."""
        return (
            tables
            | "Divide" >> beam.FlatMap(_divide, self._columns, self._num_partitions)
            | "Bring together" >> beam.GroupByKey()
            | "Join" >> beam.Map(_join)
        )


class CountRows(beam.PTransform):
    """The number of rows of all tables: PCollection[pa.Table] → PCollection[int] of one element."""

    def expand(self, tables: beam.PCollection) -> beam.PCollection:
        """Adds up."""
        return tables | beam.Map(num_rows) | beam.CombineGlobally(sum)


def partition_of(table: pa.Table, columns: Sequence[str], num_partitions: int) -> npt.NDArray[np.int64]:
    """The partition of each row, by a hash of `columns` that is the same on every worker.

    Returns:
      [num_rows] int64 in 0 … num_partitions - 1.
    """
    return ((hash_rows(table, columns) >> np.uint64(32)) % np.uint64(num_partitions)).astype(np.int64)


def hash_rows(table: pa.Table, columns: Sequence[str]) -> npt.NDArray[np.uint64]:
    """[num_rows] uint64 hashes of numbers or strings, the same on every worker."""
    hashes = np.zeros(table.num_rows, dtype=np.uint64)
    for name in columns:
        hashes = (hashes + pd.util.hash_array(table[name].to_numpy())) * _MULTIPLIER
    return hashes


def num_rows(table: pa.Table) -> int:
    """Rows of a table."""
    return int(table.num_rows)


def join_tables(tables: Iterable[pa.Table]) -> pa.Table:
    """One table of the rows of several, in memory that is its own."""
    return pa.concat_tables(list(tables)).combine_chunks()


def _divide(table: pa.Table, columns: Sequence[str], num_partitions: int) -> Iterator[tuple[int, pa.Table]]:
    return divide(table, partition_of(table, columns, num_partitions))


def divide(table: pa.Table, partition: npt.NDArray[np.int64]) -> Iterator[tuple[int, pa.Table]]:
    """Divides the rows of a table, which keep their order, by their [num_rows] int64 partitions."""
    order = np.argsort(partition, kind="stable")
    ordered = table.take(order)
    starts = np.flatnonzero(np.diff(partition[order], prepend=-1))
    for start, end in pairwise([*starts, table.num_rows]):
        yield int(partition[order[start]]), ordered.slice(start, end - start)


def _join(pieces: tuple[int, Iterable[pa.Table]]) -> pa.Table:
    return join_tables(pieces[1])
