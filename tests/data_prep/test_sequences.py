"""Histories against a search through all rows, in plain Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.sequences import Sequences, build_sequences

# user, item, time, split; few values each, so that there are many ties.
ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(-2, 4), st.integers(0, 2)), min_size=1, max_size=50
)


def build(rows: list[tuple[int, int, int, int]], length: int) -> Sequences:
    """The number of each row is its label, so that a row can be followed."""
    user, item, time, split = (np.array(column) for column in zip(*rows, strict=True))
    return build_sequences(
        user.astype(np.int32),
        item.astype(np.int32),
        time.astype(np.int64),
        split.astype(np.int8),
        np.arange(len(rows), dtype=np.float32),
        -np.arange(len(rows), dtype=np.float32),
        length,
    )


def history_of(rows: list[tuple[int, int, int, int]], row: tuple[int, int, int, int], length: int) -> list[int]:
    """The user's items of earlier splits, or of the same one at a smaller time: the last `length` of them."""
    user, _, time, split = row
    before = [(s, t, i) for u, i, t, s in rows if u == user and (s < split or (s == split and t < time))]
    return [item for _, _, item in sorted(before)][max(0, len(before) - length) :]


@settings(deadline=None)
@given(ROWS, st.sampled_from([0, 1, 3, 100]))
def test_a_history_is_what_the_user_did_before(rows: list[tuple[int, int, int, int]], length: int) -> None:
    made = build(rows, length)
    assert made.label is not None
    assert made.weight is not None
    order = made.label.astype(int).tolist()
    assert sorted(order) == list(range(len(rows)))
    assert (made.weight == -made.label).all()
    # By user, split, time and item row, and equal rows in the order in which they came.
    assert order == sorted(range(len(rows)), key=lambda n: (rows[n][0], rows[n][3], rows[n][2], rows[n][1], n))
    columns = (made.user_row, made.item_row, made.timestamp, made.split)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == [rows[n] for n in order]
    for number, start, end in zip(order, made.history_start, made.history_end, strict=True):
        assert made.item_row[start:end].tolist() == history_of(rows, rows[number], length)


def test_later_times_of_an_earlier_split_belong_to_a_history() -> None:
    """A random split trains on what came after: the state from which one recommends is all of train."""
    made = build([(0, 1, 9, 0), (0, 2, 5, 2), (0, 3, 7, 1), (0, 4, 7, 2)], 10)
    windows = zip(made.history_start, made.history_end, strict=True)
    found = dict(zip(made.item_row.tolist(), (made.item_row[a:b].tolist() for a, b in windows), strict=True))
    assert found == {1: [], 3: [1], 2: [1, 3], 4: [1, 3, 2]}


def test_labels_and_weights_may_be_absent() -> None:
    ones = np.ones(3, np.int32)
    made = build_sequences(ones, ones, np.arange(3), np.zeros(3, np.int8), None, None, 2)
    assert made.label is None
    assert made.weight is None


def test_a_user_with_many_rows_has_windows_not_copies() -> None:
    length, num_rows = 50, 30_000
    rng = np.random.default_rng(3)
    item = rng.integers(1000, size=num_rows).astype(np.int32)
    time = rng.permutation(num_rows).astype(np.int64)
    made = build_sequences(np.zeros(num_rows, np.int32), item, time, np.zeros(num_rows, np.int8), None, None, length)
    in_time = item[np.argsort(time)]
    np.testing.assert_array_equal(made.item_row, in_time)
    np.testing.assert_array_equal(made.history_end, np.arange(num_rows))
    np.testing.assert_array_equal(made.history_start, np.maximum(0, np.arange(num_rows) - length))


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_items_of_one_moment_do_not_precede_each_other(dtype: type) -> None:
    made = build([(0, item, 5, 0) for item in (3, 1, 2)] + [(0, 9, 6, 0)], 10)
    assert made.item_row.tolist() == [1, 2, 3, 9]
    assert (made.history_end - made.history_start).tolist() == [0, 0, 0, 3]


@pytest.mark.parametrize("num_users", [3, 30_000, 700_000_000])
def test_rows_stand_by_user_split_time_and_item(num_users: int) -> None:
    rng = np.random.default_rng(num_users)
    user, split = rng.integers(num_users, size=2000), rng.integers(3, size=2000)
    user[1000:], split[1000:] = user[:1000], split[:1000]
    time, item = rng.integers(5, size=2000), rng.integers(50, size=2000)
    made = build(list(zip(user.tolist(), item.tolist(), time.tolist(), split.tolist(), strict=True)), 0)
    assert made.label is not None
    np.testing.assert_array_equal(made.label, np.lexsort((item, time, split, user)))
