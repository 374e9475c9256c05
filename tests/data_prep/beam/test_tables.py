from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.beam.tables import CountRows, ShuffleByHash, TableCoder, partition_of

Run = Callable[[Any, Sequence[Any]], Any]


def rows(num_rows: int) -> pa.Table:
    return pa.table({"user": [f"u{n % 37}" for n in range(num_rows)], "row": np.arange(num_rows)})


def test_a_table_travels_whole() -> None:
    table = rows(100).append_column("tags", pa.array([["a", None], []] * 50))
    assert TableCoder().decode(TableCoder().encode(table)).equals(table)


def test_a_slice_travels_without_the_rest() -> None:
    assert len(TableCoder().encode(rows(1_000_000).slice(10, 3))) < 2000


def test_equal_values_come_together_and_no_row_is_lost(tables_of: Run) -> None:
    table = rows(1000)
    result = tables_of(ShuffleByHash(["user"], 8), [table.slice(start, 100) for start in range(0, 1000, 100)])
    assert sorted(row for part in result for row in part["row"].to_pylist()) == list(range(1000))
    owners = Counter(user for part in result for user in set(part["user"].to_pylist()))
    assert set(owners.values()) == {1}
    assert len(owners) == 37


def test_partitions_are_of_like_size_for_strings_and_integers() -> None:
    table = pa.table({"text": [f"item-{n}" for n in range(16_000)], "number": np.arange(16_000) * 1024})
    for columns in (["text"], ["number"], ["number", "text"]):
        sizes = np.bincount(partition_of(table, columns, 16), minlength=16)
        assert sizes.min() > 800
        assert sizes.max() < 1200


def test_rows_are_counted(value_of: Run) -> None:
    assert value_of(CountRows(), [rows(5), rows(7)]) == 12
    assert value_of(CountRows(), []) == 0
