"""The k-core: interactions of users and items that each have enough of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.beam.stages import Stages, StoredTables
from data_prep.beam.tables import CountRows, ShuffleByHash

ROUNDS_PER_STAGE = 4


@dataclass(frozen=True)
class Minimum:
    """The least number of rows that every value of a column must have."""

    column: str
    rows: int


class KeepFrequent(beam.PTransform):
    """Leaves out rows whose value in a column is too rare: PCollection[pa.Table] → PCollection[pa.Table]."""

    def __init__(self, minimum: Minimum, num_partitions: int) -> None:
        """Takes what is too rare, and how many tables there are at most."""
        super().__init__()
        self._minimum, self._num_partitions = minimum, num_partitions

    def expand(self, tables: beam.PCollection) -> beam.PCollection:
        """Brings equal values together, and counts."""
        return (
            tables
            | ShuffleByHash([self._minimum.column], self._num_partitions)
            | beam.Map(_keep_frequent, self._minimum)
        )


def k_core(
    stages: Stages, rows: StoredTables, minimums: Sequence[Minimum], num_partitions: int
) -> tuple[StoredTables, int]:
    """Leaves out rare values until all that remain are frequent enough.

    What remains is the largest such set, whatever the order of removals. A round applies every minimum once. Several
    rounds make a pipeline, because starting workers and writing files costs more than a round that removes nothing;
    when the last round removed nothing, the fixed point is reached.

    Args:
      stages: runs the pipelines.
      rows: interactions.
      minimums: of users and of items.
      num_partitions: about the number of rows divided by those that a worker can hold.

    Returns:
      The rows that remain, and their number.
    """
    number = 0
    while True:
        name = f"k_core_{number}"
        rows = _several_rounds(stages, name, rows, minimums, num_partitions)
        remaining = stages.value(name, "after_last_round")
        if stages.value(name, "before_last_round") == remaining:
            return rows, remaining
        number += 1


def _several_rounds(
    stages: Stages, name: str, rows: StoredTables, minimums: Sequence[Minimum], num_partitions: int
) -> StoredTables:
    with stages.stage(name) as stage:
        tables = stage.read(rows)
        for number in range(ROUNDS_PER_STAGE):
            before = tables
            for minimum in minimums:
                tables |= f"Round {number}: {minimum.column}" >> KeepFrequent(minimum, num_partitions)
        stage.store_value("before_last_round", before | "Count before" >> CountRows())
        stage.store_value("after_last_round", tables | "Count after" >> CountRows())
        return stage.store("rows", tables, rows.schema)


def _keep_frequent(table: pa.Table, minimum: Minimum) -> pa.Table:
    counts = pc.value_counts(table[minimum.column])
    enough = pc.greater_equal(counts.field("counts"), minimum.rows)
    return table.filter(pc.is_in(table[minimum.column], value_set=counts.field("values").filter(enough)))
