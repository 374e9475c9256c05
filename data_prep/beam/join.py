"""Joins of two tables that no worker holds."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_prep.beam.tables import divide, join_tables, partition_of

Partition = Callable[[pa.Table], npt.NDArray[np.int64]]
Join = Callable[[pa.Table | None, pa.Table | None], pa.Table | None]
_SIDES = ("left", "right")


class CoShuffle(beam.PTransform):
    """Brings rows of two collections together: a pair of PCollection[pa.Table] → PCollection[pa.Table].

    What agrees in its key must agree in its partition. Each partition needs the memory of its rows of both sides.
    """

    def __init__(self, left: Partition, right: Partition, join: Join) -> None:
        """Takes the partitions of the rows of each side, and what is done with those of one partition.

        Args:
          left: a function at module level, or a partial of one, from a table of one side to [num_rows] int64.
          right: the same for the other side.
          join: from the rows of each side, None without any, to a table, or to None where nothing comes out.
        """
        super().__init__()
        self._partitions, self._join = (left, right), join

    def expand(self, sides: Any) -> beam.PCollection:
        """Divides both, groups and joins."""
        pieces = [
            tables | f"Divide {name}" >> beam.FlatMap(_divide_side, partition, name)
            for tables, partition, name in zip(sides, self._partitions, _SIDES, strict=True)
        ]
        return (
            pieces
            | beam.Flatten()
            | "Bring together" >> beam.GroupByKey()
            | "Join" >> beam.FlatMap(_joined, self._join).with_output_types(pa.Table)
        )


class GroupByRange(beam.PTransform):
    """Rows whose numbers are near each other: PCollection[pa.Table] → PCollection[(partition, pa.Table)]."""

    def __init__(self, column: str, num_values: int, num_partitions: int) -> None:
        """Takes an int column with the numbers 0 … `num_values` - 1."""
        super().__init__()
        self._partition = by_range(column, num_values, num_partitions)

    def expand(self, tables: beam.PCollection) -> beam.PCollection:
        """Divides and groups."""
        return (
            tables
            | "Divide" >> beam.FlatMap(_divide, self._partition)
            | "Bring together" >> beam.GroupByKey()
            | "Join" >> beam.MapTuple(_keep_partition)
        )


def by_hash(*columns: str, num_partitions: int) -> Partition:
    """Partitions of rows that agree in some columns."""
    return partial(partition_of, columns=columns, num_partitions=num_partitions)


def by_range(column: str, num_values: int, num_partitions: int) -> Partition:
    """Partitions of equal ranges of an int column with the numbers 0 … `num_values` - 1."""
    return partial(_range_of, column=column, num_values=num_values, num_partitions=num_partitions)


def _range_of(table: pa.Table, column: str, num_values: int, num_partitions: int) -> npt.NDArray[np.int64]:
    return table[column].to_numpy().astype(np.int64) * num_partitions // num_values


def _divide(table: pa.Table, partition: Partition) -> Iterator[tuple[int, pa.Table]]:
    return divide(table, partition(table))


def _divide_side(table: pa.Table, partition: Partition, side: str) -> Iterator[tuple[int, pa.Table]]:
    for number, piece in divide(table, partition(table)):
        yield number, piece.replace_schema_metadata({"side": side})


def _keep_partition(partition: int, tables: Iterable[pa.Table]) -> tuple[int, pa.Table]:
    return partition, join_tables(tables)


def _joined(pieces: tuple[int, Iterable[pa.Table]], join: Join) -> Iterator[pa.Table]:
    sides: dict[bytes, list[pa.Table]] = {side.encode(): [] for side in _SIDES}
    for piece in pieces[1]:
        sides[piece.schema.metadata[b"side"]].append(piece.replace_schema_metadata(None))
    joined = join(*(join_tables(tables) if tables else None for tables in sides.values()))
    if joined is not None:
        yield joined
