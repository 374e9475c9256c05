"""A total order of all rows without a worker that holds them: sampled splitters, buckets, sorted buckets."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.beam.tables import hash_rows, join_tables, num_rows

SortKeys = Sequence[tuple[str, Literal["ascending", "descending"]]]

_SAMPLE_ROWS_PER_BUCKET = 32  # a bucket then rarely holds twice its share
_PRIORITY = "__priority"
_IS_ROW = "__is_row"


class GlobalRank(beam.PTransform):
    """Numbers all rows 0 … N - 1 in a given order: PCollection[pa.Table] → PCollection[pa.Table].

    Rows are divided into buckets by splitters taken from a sample, each bucket is sorted by itself, and begins at the
    number of rows in the buckets before it. Splitters are whole keys, so a frequent first column does not fill one
    bucket. Strings are ordered by code points, as in Python. Tables of the result are the sorted buckets.


    Raises:
      ValueError: while running, when two rows agree in all keys, as their ranks would be left to chance.
    """

    def __init__(self, keys: SortKeys, num_buckets: int, rank_column: str = "rank") -> None:
        """Describes the order.

        Args:
          keys: columns to sort by, each `ascending` or `descending`; no two rows agree in all of them.
          num_buckets: about N divided by the rows that a worker can sort.
          rank_column: the name of the int64 column that is added.
        """
        super().__init__()
        self._keys, self._num_buckets, self._rank_column = tuple(keys), num_buckets, rank_column

    def expand(self, tables: beam.PCollection) -> beam.PCollection:
        """Divides, sorts and numbers."""
        pieces = tables | "Divide" >> _RangeBuckets(self._keys, self._num_buckets)
        sizes = pieces | "Sizes" >> _BucketTotals(num_rows)
        return (
            pieces
            | "Bring together" >> beam.GroupByKey()
            | "Number" >> beam.Map(_number, self._keys, self._rank_column, beam.pvalue.AsDict(sizes))
        )


class ExactSelect(beam.PTransform):
    """The elements at given ranks: PCollection of NumPy arrays → PCollection of one list.

    Equal numbers are counted, not held, so any number of them takes the memory of one.
    """

    def __init__(self, ranks: Callable[[int], Sequence[int]], num_buckets: int) -> None:
        """Describes what is asked for.

        Args:
          ranks: a function at module level from the number of elements, which is never 0, to 0-based ranks.
          num_buckets: about the number of distinct elements divided by those that a worker can sort.
        """
        super().__init__()
        self._ranks, self._num_buckets = ranks, num_buckets

    def expand(self, arrays: beam.PCollection) -> beam.PCollection:
        """Counts equal numbers, orders them, and picks. Without elements the list is empty."""
        pieces = arrays | "Count" >> beam.Map(_count) | _RangeBuckets((("value", "ascending"),), self._num_buckets)
        sizes = pieces | "Sizes" >> _BucketTotals(_num_values)
        return (
            pieces
            | "Bring together" >> beam.GroupByKey()
            | "Pick" >> beam.FlatMap(_pick, self._ranks, beam.pvalue.AsDict(sizes))
            | "Collect" >> beam.combiners.ToList()
            | "Arrange" >> beam.Map(_arranged)
        )


class _RangeBuckets(beam.PTransform):
    """PCollection[pa.Table] → PCollection[(bucket, pa.Table)], where buckets follow each other in order of `keys`."""

    def __init__(self, keys: SortKeys, num_buckets: int) -> None:
        super().__init__()
        self._keys, self._num_buckets = keys, num_buckets

    def expand(self, tables: beam.PCollection) -> beam.PCollection:
        sample_rows = _SAMPLE_ROWS_PER_BUCKET * self._num_buckets
        splitters = (
            tables
            | "Sample tables" >> beam.Map(_sample, self._keys, sample_rows)
            | "Sample" >> beam.CombineGlobally(_Smallest(sample_rows)).without_defaults()
            | "Choose splitters" >> beam.Map(_splitters, self._keys, self._num_buckets)
        )
        return tables | "Cut" >> beam.FlatMap(_cut, self._keys, beam.pvalue.AsSingleton(splitters))


class _BucketTotals(beam.PTransform):
    """PCollection[(bucket, pa.Table)] → PCollection[(bucket, int)], a small number of them."""

    def __init__(self, total: Callable[[pa.Table], int]) -> None:
        super().__init__()
        self._total = total

    def expand(self, pieces: beam.PCollection) -> beam.PCollection:
        return pieces | beam.Map(_sized, self._total) | beam.CombinePerKey(sum)


class _Smallest(beam.CombineFn):
    """The rows of the smallest priorities: a sample, since a priority is a hash."""

    def __init__(self, sample_rows: int) -> None:
        self._sample_rows = sample_rows

    def create_accumulator(self) -> list[pa.Table]:
        return []

    def add_input(self, accumulator: list[pa.Table], table: pa.Table) -> list[pa.Table]:
        return [_smallest(join_tables([*accumulator, table]), self._sample_rows)]

    def merge_accumulators(self, accumulators: Iterable[list[pa.Table]]) -> list[pa.Table]:
        tables = [table for accumulator in accumulators for table in accumulator]
        return [_smallest(join_tables(tables), self._sample_rows)] if tables else []

    def extract_output(self, accumulator: list[pa.Table]) -> pa.Table:
        return accumulator[0]


def _sample(table: pa.Table, keys: SortKeys, sample_rows: int) -> pa.Table:
    table = table.select([name for name, _ in keys])
    return _smallest(table.append_column(_PRIORITY, pa.array(hash_rows(table, table.column_names))), sample_rows)


def _smallest(table: pa.Table, sample_rows: int) -> pa.Table:
    # A key that is in every table is to stand in the sample once.
    table = table.group_by(table.column_names).aggregate([])
    return table.sort_by(_PRIORITY).slice(0, sample_rows)


def _splitters(sample: pa.Table, keys: SortKeys, num_buckets: int) -> pa.Table:
    ordered = sample.drop_columns([_PRIORITY]).sort_by(list(keys))
    positions = np.unique(np.arange(1, num_buckets) * ordered.num_rows // num_buckets)
    return ordered.take(positions[: ordered.num_rows])  # which may be none


def _cut(table: pa.Table, keys: SortKeys, splitters: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Sorts rows and splitters together: a row's bucket is the number of splitters before it or equal to it."""
    own = table.select(splitters.column_names)
    both = pa.concat_tables(
        [
            own.append_column(_IS_ROW, pa.repeat(True, own.num_rows)),
            splitters.append_column(_IS_ROW, pa.repeat(False, splitters.num_rows)),
        ]
    )
    order = pc.sort_indices(both, sort_keys=[*keys, (_IS_ROW, "ascending")]).to_numpy()
    cuts = [-1, *np.flatnonzero(order >= table.num_rows), len(order)]
    for bucket, (cut, next_cut) in enumerate(pairwise(cuts)):
        if next_cut - cut > 1:
            yield bucket, table.take(order[cut + 1 : next_cut])


def _sized(piece: tuple[int, pa.Table], total: Callable[[pa.Table], int]) -> tuple[int, int]:
    bucket, table = piece
    return bucket, total(table)


def _num_values(table: pa.Table) -> int:
    return int(pc.sum(table["count"]).as_py())


def _number(
    pieces: tuple[int, Iterable[pa.Table]], keys: SortKeys, rank_column: str, sizes: dict[int, int]
) -> pa.Table:
    bucket, tables = pieces
    ordered = join_tables(tables).sort_by(list(keys))
    _refuse_ties(ordered, keys)
    start = _offset(bucket, sizes)
    return ordered.append_column(rank_column, pa.array(np.arange(start, start + ordered.num_rows)))


def _offset(bucket: int, sizes: dict[int, int]) -> int:
    return sum(size for other, size in sizes.items() if other < bucket)


def _refuse_ties(ordered: pa.Table, keys: SortKeys) -> None:
    equal = np.ones(max(ordered.num_rows - 1, 0), dtype=bool)
    for name, _ in keys:
        column = ordered[name].combine_chunks()
        equal &= pc.equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
    if equal.any():
        row = ordered.select([name for name, _ in keys]).slice(int(np.flatnonzero(equal)[0]), 1).to_pylist()[0]
        raise ValueError(f"two rows have the same sort key {row}: expected a total order")


def _count(array: Any) -> pa.Table:
    values, counts = np.unique(array, return_counts=True)
    return pa.table({"value": values, "count": counts})


def _pick(
    pieces: tuple[int, Iterable[pa.Table]], ranks: Callable[[int], Sequence[int]], sizes: dict[int, int]
) -> Iterator[tuple[int, Any]]:
    """Yields the values in this bucket that were asked for, with their places in the answer."""
    bucket, tables = pieces
    counted = join_tables(tables).group_by("value").aggregate([("count", "sum")]).sort_by("value")
    ends = _offset(bucket, sizes) + np.cumsum(counted["count_sum"].to_numpy())
    start = int(ends[0]) - counted["count_sum"][0].as_py()
    for position, rank in enumerate(ranks(sum(sizes.values()))):
        if start <= rank < ends[-1]:
            yield position, counted["value"][int(np.searchsorted(ends, rank, side="right"))].as_py()


def _arranged(pairs: list[tuple[int, Any]]) -> list[Any]:
    return [value for _, value in sorted(pairs)]
