"""The k best of many scores, exactly, in two stages."""

import math

import tensorflow as tf


def best_of_each_row(scores: tf.Tensor, excluded: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds the columns of each row's `k` best scores, best first; of equal scores the lower column comes first.

    The row is cut into groups of neighbours, and only the k groups with the largest maxima are searched. That is exact:
    each of k groups that are better, or equal and further left, holds a score that precedes all of a group left out.

    Args:
      scores: [batch, num_columns] float32; -inf is never chosen.
      excluded: [num_excluded, 2] int64 pairs of row and column that are not chosen either.
      k: at most num_columns.

    Returns:
      [batch, k] int32, -1 where nothing is left to choose, and a scalar bool: whether a score was NaN, for then the
      columns mean nothing.
    """
    num_columns = scores.shape[1]
    group_size = _group_size(num_columns, k)
    padding = -num_columns % group_size
    padded = tf.pad(scores, [[0, 0], [0, padding]], constant_values=-float("inf"))
    allowed = tf.tensor_scatter_nd_update(padded, excluded, tf.fill([tf.shape(excluded)[0]], -float("inf")))
    groups = tf.reshape(allowed, [-1, (num_columns + padding) // group_size, group_size])
    largest = tf.reduce_max(groups, axis=2)
    chosen = tf.sort(tf.math.top_k(largest, k).indices, axis=1)  # lower columns stay to the left
    best = tf.math.top_k(tf.reshape(tf.gather(groups, chosen, batch_dims=1), [-1, k * group_size]), k)
    column = tf.gather(chosen, best.indices // group_size, batch_dims=1) * group_size + best.indices % group_size
    return tf.where(best.values == -float("inf"), -1, column), tf.reduce_any(tf.math.is_nan(largest))


def _group_size(num_columns: int, k: int) -> int:
    """The power of two at which both stages have about as much to search."""
    return int(2 ** round(math.log2(num_columns / k) / 2))
