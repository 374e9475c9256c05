"""Histories against a search through all rows."""

import numpy as np
import numpy.typing as npt
import pytest

from data_prep.sequences import build_sequences

Ints = npt.NDArray[np.int32]


def brute_force_history(user: Ints, item: Ints, time: Ints, row: int, length: int) -> list[int]:
    earlier = [(time[j], item[j]) for j in range(len(user)) if user[j] == user[row] and time[j] < time[row]]
    return [int(i) for _, i in sorted(earlier)][-length:]


@pytest.mark.parametrize("length", [1, 3, 1000])
def test_a_history_is_the_users_latest_earlier_items(length: int) -> None:
    rng = np.random.default_rng(length)
    user, item, time = (rng.integers(bound, size=400).astype(np.int32) for bound in (7, 50, 30))
    split = rng.integers(3, size=400).astype(np.int8)
    made = build_sequences(user, item, time.astype(np.int64), split, length)

    rows = sorted(zip(user, time, item, strict=True))
    assert list(zip(made.user_row, made.timestamp, made.item_row, strict=True)) == rows
    for row in range(400):
        history = made.item_row[made.history_start[row] : made.history_end[row]].tolist()
        assert history == brute_force_history(made.user_row, made.item_row, made.timestamp, row, length)


def test_splits_follow_their_rows() -> None:
    made = build_sequences(
        np.array([1, 0, 1], np.int32),
        np.array([5, 6, 7], np.int32),
        np.array([9, 8, 7]),
        np.array([2, 1, 0], np.int8),
        4,
    )
    assert made.item_row.tolist() == [6, 7, 5]
    assert made.split.tolist() == [1, 0, 2]
