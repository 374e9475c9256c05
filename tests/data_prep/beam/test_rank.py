import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from data_prep.beam import rank
from data_prep.beam.rank import ExactSelect, GlobalRank

Run = Callable[[Any, Sequence[Any]], Any]

BY_COUNT = [("count", "descending"), ("value", "ascending")]
# A pipeline takes up to a second, too long for shrinking; the fixtures keep no state.
FEW = settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def batches(frame: pd.DataFrame, size: int) -> list[pa.Table]:
    return [pa.table(frame[start : start + size]) for start in range(0, len(frame), size)]


def ranked(tables: list[pa.Table]) -> pd.DataFrame:
    return pd.concat([table.to_pandas() for table in tables]).sort_values("rank").reset_index(drop=True)


def extremes(_: int) -> list[int]:
    return [0]


def middle_and_both_ends(num_elements: int) -> list[int]:
    return [num_elements // 2, 0, num_elements - 1]


def test_ranks_equal_a_sort_in_pandas(tables_of: Run) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"count": rng.integers(0, 3, 5000), "value": [f"v{n}" for n in rng.permutation(5000)]})
    result = ranked(tables_of(GlobalRank(BY_COUNT, num_buckets=7), batches(frame, 400)))
    expected = frame.sort_values(["count", "value"], ascending=[False, True], ignore_index=True)
    pd.testing.assert_frame_equal(result[["count", "value"]], expected)
    assert result["rank"].tolist() == list(range(5000))


def test_a_frequent_first_key_is_divided_among_buckets(tables_of: Run) -> None:
    frame = pd.DataFrame({"count": 1, "value": [f"v{n}" for n in range(20_000)]})
    sizes = [table.num_rows for table in tables_of(GlobalRank(BY_COUNT, num_buckets=10), batches(frame, 2000))]
    assert len(sizes) == 10
    assert max(sizes) < 2 * statistics.mean(sizes)


@FEW
@given(values=st.sets(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=40), data=st.data())
def test_strings_stand_in_the_order_of_python(tables_of: Run, values: set[str], data: st.DataObject) -> None:
    rows = [(value, data.draw(st.integers(-2, 2))) for value in values]
    frame = pd.DataFrame(rows, columns=["value", "count"]).astype({"value": "string", "count": "int64"})
    result = tables_of(GlobalRank(BY_COUNT, num_buckets=3), batches(frame, 7))
    expected = [value for value, _ in sorted(rows, key=lambda row: (-row[1], row[0]))]
    assert [
        value for table in sorted(result, key=lambda t: t["rank"][0].as_py()) for value in table["value"].to_pylist()
    ] == expected


def test_equal_keys_are_refused(tables_of: Run) -> None:
    twice = pa.table({"count": [1, 1], "value": ["a", "a"]})
    with pytest.raises(ValueError, match=r"two rows have the same sort key \{'count': 1, 'value': 'a'\}"):
        tables_of(GlobalRank(BY_COUNT, num_buckets=2), [twice])


def test_tables_without_rows_are_ranked(tables_of: Run) -> None:
    empty = pa.table({"count": pa.array([], pa.int64()), "value": pa.array([], pa.string())})
    assert tables_of(GlobalRank(BY_COUNT, num_buckets=2), [empty]) == []


@FEW
@given(
    arrays=st.lists(
        st.lists(st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=9), min_size=1
    ),
    num_buckets=st.integers(1, 5),
)
def test_selected_integers_are_those_of_a_sort(value_of: Run, arrays: list[list[int]], num_buckets: int) -> None:
    ordered = sorted(number for array in arrays for number in array)
    result = value_of(ExactSelect(middle_and_both_ends, num_buckets), [np.array(array) for array in arrays])
    assert result == [ordered[len(ordered) // 2], ordered[0], ordered[-1]]


def test_selected_floats_are_those_of_a_sort(value_of: Run) -> None:
    numbers = np.random.default_rng(1).normal(size=(10, 1000))
    result = value_of(ExactSelect(middle_and_both_ends, 4), list(numbers))
    ordered = np.sort(numbers, axis=None)
    assert result == [ordered[5000], ordered[0], ordered[-1]]


def test_nothing_is_selected_from_nothing(value_of: Run) -> None:
    assert value_of(ExactSelect(extremes, 4), []) == []


def test_values_in_every_batch_leave_room_for_others_in_the_sample() -> None:
    always, once = pa.table({"value": np.arange(50)}), pa.table({"value": np.arange(50, 1050)})
    samples = [rank._sample(table, [("value", "ascending")], 64) for table in [always] * 100 + [once]]
    assert (
        len(set(rank._Smallest(64).merge_accumulators([[sample] for sample in samples])[0]["value"].to_pylist())) == 64
    )
