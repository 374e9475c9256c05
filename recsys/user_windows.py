"""Windows on the train rows of each user, which stand together in one block."""

import numpy as np
import tensorflow as tf

from recsys.dataset import Dataset


def windows_of_users(user_row: tf.Tensor, length: int, without_last: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
    """Cuts each user's rows into windows of at most `length`, from the latest back, so that the earliest may be short.

    Args:
      user_row: [num_rows] int32, at least one; rows of one user are neighbours.
      length: of a window.
      without_last: leave each user's last row out, as nothing follows it.

    Returns:
      The first row of each window, and the row behind its last, [num_windows] int32 each.
    """
    is_last = tf.concat([user_row[1:] != user_row[:-1], [True]], axis=0)
    behind = tf.cast(tf.where(is_last)[:, 0], tf.int32) + 1
    first = tf.concat([[0], behind[:-1]], axis=0)
    if without_last:
        behind -= 1
    num_windows = -(-(behind - first) // length)
    window = tf.range(tf.reduce_sum(num_windows)) - tf.repeat(tf.cumsum(num_windows, exclusive=True), num_windows)
    ends = tf.repeat(behind, num_windows) - window * length
    return tf.maximum(tf.repeat(first, num_windows), ends - length), ends


def num_windows_of_shards(dataset: Dataset, length: int, without_last: bool = False) -> list[int]:
    """Returns how many windows each train shard has, without reading it: a shard holds whole users.

    Args:
      dataset: whose shards.
      length: of a window.
      without_last: as for `windows_of_users`.
    """
    counts = dataset.users["train_count"].to_numpy().astype(np.int64)
    shard_ends = np.cumsum([shard.num_rows for shard in dataset.manifest.splits["train"]])
    per_user = -(-np.maximum(counts - without_last, 0) // length)
    users_before = np.searchsorted(np.cumsum(counts), shard_ends, side="right")
    windows: list[int] = np.diff(np.concatenate([[0], np.cumsum(per_user)])[users_before], prepend=0).tolist()
    return windows
