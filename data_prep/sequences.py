"""Histories: what a user did before each interaction."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sequences:
    """All interactions by user, oldest first, and the window of each that is its history.

    Attributes:
      user_row, item_row: [num_rows] int32.
      timestamp: [num_rows] int64.
      split: [num_rows] int8 positions in `SPLITS`.
      history_start, history_end: [num_rows] int64; `item_row[start:end]` are the latest items of the same user with
        a strictly smaller timestamp, at most `history_length` of them.
    """

    user_row: Int32s
    item_row: Int32s
    timestamp: Int64s
    split: npt.NDArray[np.int8]
    history_start: Int64s
    history_end: Int64s


def build_sequences(
    user_row: Int32s,
    item_row: Int32s,
    timestamp: Int64s,
    split: npt.NDArray[np.int8],
    history_length: int,
) -> Sequences:
    """Sorts by user and time. Rows of one user and time stand by item row, which is a hash's order: no order leaks."""
    by_time = np.lexsort((item_row, timestamp, user_row))
    user, time = user_row[by_time], timestamp[by_time]
    positions = np.arange(len(user), dtype=np.int64)
    new_user = np.ones(len(user), dtype=bool)
    new_user[1:] = user[1:] != user[:-1]
    new_moment = new_user.copy()
    new_moment[1:] |= time[1:] != time[:-1]
    user_start = np.maximum.accumulate(np.where(new_user, positions, 0))
    end = np.maximum.accumulate(np.where(new_moment, positions, 0))
    start = np.maximum(user_start, end - history_length)
    return Sequences(user, item_row[by_time], time, split[by_time], start, end)
