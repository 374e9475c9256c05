"""The best candidates that are allowed: over-fetch, drop, and fall back to exact search when short."""

import tensorflow as tf

from serving.chunks import in_chunks
from serving.index import ExactIndex
from serving.index_quality import Search

_AFTER_ALL_ROWS = tf.int32.max
# Where the index would have to find more than this share of the catalogue, comparing with all of it is faster.
_LARGEST_SHARE = 0.25


def search_allowed(
    search: Search,
    exact: ExactIndex,
    queries: tf.Tensor,
    excluded: tf.RaggedTensor,
    k: tf.Tensor,
    within: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Searches for `k` candidates `within` those that are asked for, and outside of `excluded`.

    The index is asked for as many more as the longest exclusion has, and as the rarity of what is asked for demands;
    where what remains is still fewer than `k`, the whole batch is searched exactly, a chunk at a time. So a row has
    fewer than `k` candidates only when no more exist.

    Args:
      search: of the index to ask.
      exact: brute force over the same candidates.
      queries: [batch, embedding_dim] float32.
      excluded: [batch, (excluded)] int32 rows; -1 is ignored.
      k: scalar int32, 1 … `num_candidates`.
      within: [batch, num_candidates] bool, what a row asks for; everything when None.

    Returns:
      Rows [batch, k] int32 and scores [batch, k] float32, best first; -1 and the smallest float32 where none is left.
    """
    size = exact.num_candidates
    wanted = tf.minimum(k + tf.cast(excluded.bounding_shape(1), tf.int32), size)

    def exactly() -> tuple[tf.Tensor, tf.Tensor]:
        return in_chunks(best_of, tf.shape(queries)[0], size)

    def best_of(start: tf.Tensor, stop: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        allowed = tf.logical_not(rows_mask(excluded[start:stop], size))
        if within is not None:
            allowed &= within[start:stop]
        best = tf.math.top_k(tf.where(allowed, exact.scores(queries[start:stop]), tf.float32.min), k)
        return tf.where(best.values > tf.float32.min, best.indices, -1), best.values

    def by_index(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows, scores = best_allowed(*search(queries, number), excluded, k, within)
        return tf.cond(tf.reduce_any(rows < 0), exactly, lambda: (rows, scores))

    if within is None:
        return by_index(wanted)
    rarest = tf.reduce_min(tf.reduce_sum(tf.cast(within, tf.int32), axis=1)) / size
    needed = tf.cast(wanted, tf.float64) / tf.maximum(rarest, 1 / size)
    return tf.cond(needed > _LARGEST_SHARE * size, exactly, lambda: by_index(tf.cast(needed, tf.int32)))


def best_allowed(
    rows: tf.Tensor, scores: tf.Tensor, excluded: tf.RaggedTensor, k: tf.Tensor, within: tf.Tensor | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the first `k` of what was found that are allowed.

    Args:
      rows: [batch, found] int32, best first; `found` is at least `k`.
      scores: [batch, found] float32.
      excluded: [batch, (excluded)] int32 rows; -1 is ignored.
      k: scalar int32.
      within: [batch, num_candidates] bool, what a row asks for; everything when None.

    Returns:
      Rows [batch, k] int32 and scores [batch, k] float32; -1 and the smallest float32 where none is left.
    """
    barred = tf.sort(excluded.to_tensor(default_value=_AFTER_ALL_ROWS), axis=1)
    padded = tf.pad(barred, [[0, 0], [0, 1]], constant_values=_AFTER_ALL_ROWS)
    is_barred = tf.gather(padded, tf.searchsorted(padded, rows), batch_dims=1) == rows
    if within is not None:
        is_barred |= tf.logical_not(tf.gather(within, tf.maximum(rows, 0), batch_dims=1))
    scores = tf.where(is_barred, tf.float32.min, scores)
    best = tf.math.top_k(scores, k)
    allowed = best.values > tf.float32.min
    return tf.where(allowed, tf.gather(rows, best.indices, batch_dims=1), -1), best.values


def rows_mask(rows: tf.RaggedTensor, size: int) -> tf.Tensor:
    """Marks rows: [batch, (rows)] int32, where -1 is ignored → [batch, size] bool."""
    present = tf.ragged.boolean_mask(rows, rows >= 0)
    places = tf.stack([tf.cast(present.value_rowids(), tf.int32), present.flat_values], axis=1)
    nothing = tf.zeros([present.nrows(out_type=tf.int32), size], tf.bool)
    return tf.tensor_scatter_nd_update(nothing, places, tf.ones_like(present.flat_values, tf.bool))
