"""What explains an item: those that somebody took that are nearest to it."""

import tensorflow as tf


def nearest_of(
    candidates: tf.Tensor, queries: tf.Tensor, item: tf.Tensor, taken: tf.Tensor, k: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the nearest of some items, by the inner product of their embeddings with the item's as a query.

    Args:
      candidates: [num_candidates, embedding_dim] float32.
      queries: [batch, embedding_dim] float32, of the items.
      item: [batch, 1] int32, a row of `candidates`; -1 has no neighbours.
      taken: [batch, any] int32 rows; -1 is ignored, as are rows that come again and the item itself.
      k: scalar int32, at least 1.

    Returns:
      Rows [batch, k] int32 and scores [batch, k] float32, best first; -1 and the smallest float32 where none is left.
    """
    once = tf.sort(taken, axis=1)
    is_first = tf.concat([tf.ones_like(once[:, :1], tf.bool), once[:, 1:] != once[:, :-1]], axis=1)
    embedded = tf.gather(candidates, tf.maximum(once, 0))
    scores = tf.linalg.matvec(embedded, queries)
    scores = tf.where(is_first & (once >= 0) & (item >= 0) & (once != item), scores, tf.float32.min)
    padded = tf.pad(scores, [[0, 0], [0, k]], constant_values=tf.float32.min)
    best = tf.math.top_k(padded, k)
    rows = tf.gather(tf.pad(once, [[0, 0], [0, k]], constant_values=-1), best.indices, batch_dims=1)
    return tf.where(best.values > tf.float32.min, rows, -1), best.values
