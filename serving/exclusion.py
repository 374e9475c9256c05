"""The best candidates that are not excluded: over-fetch, drop, and fall back to exact search when short."""

import tensorflow as tf

from serving.index import ExactIndex, Index

_AFTER_ALL_ROWS = tf.int32.max


def search_excluding(
    index: Index, exact: ExactIndex, queries: tf.Tensor, excluded: tf.RaggedTensor, k: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Searches for `k` candidates outside of `excluded`.

    The index is asked for as many more as the longest exclusion has; where what remains is still fewer than `k`, the
    whole batch is searched exactly. So a row has fewer than `k` candidates only when no more exist.

    Args:
      index: the index to ask.
      exact: brute force over the same candidates.
      queries: [batch, embedding_dim] float32.
      excluded: [batch, (excluded)] int32 rows; -1 is ignored.
      k: scalar int32, 1 … `num_candidates`.

    Returns:
      Rows [batch, k] int32 and scores [batch, k] float32, best first; -1 and the smallest float32 where none is left.
    """
    wanted = tf.minimum(k + tf.cast(excluded.bounding_shape(1), tf.int32), index.num_candidates)
    rows, scores = best_allowed(*index.search(queries, wanted), excluded, k)
    short = tf.reduce_any(rows < 0)

    def exactly() -> tuple[tf.Tensor, tf.Tensor]:
        every_row, every_score = exact.search(queries, index.num_candidates)
        return best_allowed(every_row, every_score, excluded, k)

    return tf.cond(short, exactly, lambda: (rows, scores))


def best_allowed(
    rows: tf.Tensor, scores: tf.Tensor, excluded: tf.RaggedTensor, k: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the first `k` of what was found that are not excluded.

    Args:
      rows: [batch, found] int32, best first; `found` is at least `k`.
      scores: [batch, found] float32.
      excluded: [batch, (excluded)] int32 rows; -1 is ignored.
      k: scalar int32.

    Returns:
      Rows [batch, k] int32 and scores [batch, k] float32; -1 and the smallest float32 where none is left.
    """
    barred = tf.sort(excluded.to_tensor(default_value=_AFTER_ALL_ROWS), axis=1)
    padded = tf.pad(barred, [[0, 0], [0, 1]], constant_values=_AFTER_ALL_ROWS)
    is_barred = tf.gather(padded, tf.searchsorted(padded, rows), batch_dims=1) == rows
    scores = tf.where(is_barred, tf.float32.min, scores)
    best = tf.math.top_k(scores, k)
    allowed = best.values > tf.float32.min
    return tf.where(allowed, tf.gather(rows, best.indices, batch_dims=1), -1), best.values
