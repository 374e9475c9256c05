"""Histories: what a user did before each interaction."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Float32s = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sequences:
    """All interactions by user, split and time, and the window of each that is its history.

    Attributes:
      user_row, item_row: [num_rows] int32.
      timestamp: [num_rows] int64.
      split: [num_rows] int8 positions in `SPLITS`.
      label, weight: [num_rows] float32, where the source has them.
      history_start, history_end: [num_rows] int64; `item_row[start:end]` are the latest items, at most
        `history_length`, that the same user took in an earlier split, or in the same one at a strictly smaller time.
    """

    user_row: Int32s
    item_row: Int32s
    timestamp: Int64s
    split: Int8s
    label: Float32s | None
    weight: Float32s | None
    history_start: Int64s
    history_end: Int64s


def build_sequences(
    user_row: Int32s,
    item_row: Int32s,
    timestamp: Int64s,
    split: Int8s,
    label: Float32s | None,
    weight: Float32s | None,
    history_length: int,
) -> Sequences:
    """Sorts by user, split and time.

    Rows that agree in all three stand by item row, which is a hash's order: no order leaks. Rows of one item among
    them stay in the order they come in.
    """
    by_time = _by_user_split_and_time(user_row, item_row, timestamp, split)
    user, time, part = user_row[by_time], timestamp[by_time], split[by_time]
    positions = np.arange(len(user), dtype=np.int64)
    new_user = _changes(user)
    user_start = np.maximum.accumulate(np.where(new_user, positions, 0))
    end = np.maximum.accumulate(np.where(new_user | _changes(part) | _changes(time), positions, 0))
    return Sequences(
        user_row=user,
        item_row=item_row[by_time],
        timestamp=time,
        split=part,
        label=None if label is None else label[by_time],
        weight=None if weight is None else weight[by_time],
        history_start=np.maximum(user_start, end - history_length),
        history_end=end,
    )


def _by_user_split_and_time(user_row: Int32s, item_row: Int32s, timestamp: Int64s, split: Int8s) -> Int64s:
    """As `np.lexsort((item_row, timestamp, split, user_row))`, several times faster.

    Sources often come in time's order, which a stable sort takes for nothing, and few rows need to be told apart
    by item.
    """
    order = np.argsort(timestamp, kind="stable")
    owner = (user_row.astype(np.int64) * 3 + split)[order]
    by_owner = _stable_order(owner)
    order = order[by_owner]
    new_moment = _changes(owner[by_owner]) | _changes(timestamp[order])
    shares_moment = ~new_moment
    shares_moment[:-1] |= ~new_moment[1:]
    tied = order[shares_moment]
    moment = np.cumsum(new_moment[shares_moment])
    order[shares_moment] = tied[np.lexsort((item_row[tied], moment))]
    return order


def _stable_order(values: Int64s) -> Int64s:
    """As `np.argsort(values, kind="stable")` of what is not negative.

    Digit by digit, the least first: NumPy counts digits of 16 bits, which takes less than half as long as comparing.
    """
    order = np.argsort(values.astype(np.uint16), kind="stable")
    while (values := values >> 16).any():
        order = order[np.argsort(values[order].astype(np.uint16), kind="stable")]
    return order


def _changes(values: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """[num_rows] bool: where a value differs from the one before."""
    changed = np.ones(len(values), dtype=bool)
    changed[1:] = values[1:] != values[:-1]
    return changed
