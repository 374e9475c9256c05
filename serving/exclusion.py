"""The best candidates that are allowed: over-fetch, drop, and search exactly for rows that are short."""

import tensorflow as tf

from serving.chunks import in_chunks
from serving.index import ExactIndex
from serving.index_quality import Search

_AFTER_ALL_ROWS = tf.int32.max
# Where the index would have to find more than this share of the catalogue, comparing with all of it is faster; but not
# where it is a few only.
_LARGEST_SHARE, _A_FEW = 0.25, 1000


def search_allowed(
    search: Search,
    exact: ExactIndex,
    queries: tf.Tensor,
    excluded: tf.RaggedTensor,
    k: tf.Tensor,
    within: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Searches for `k` candidates `within` those that are asked for, and outside of `excluded`.

    The index is asked for as many more as a row's exclusions may take, and as the rarity of what it asks for demands.
    Rows that would demand too much, and those where what remains is still fewer than `k`, are searched exactly, a chunk
    at a time. So a row has fewer than `k` candidates only when no more exist.

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
    needed = tf.cast(k + tf.cast(excluded.row_lengths(), tf.int32), tf.float64)
    if within is not None:
        # At least one of so many is asked for.
        needed *= exact.num_candidates / tf.maximum(tf.reduce_sum(tf.cast(within, tf.float64), axis=1), 1)
    is_too_much = needed > max(_A_FEW, _LARGEST_SHARE * exact.num_candidates)
    most = tf.maximum(
        tf.math.ceil(tf.reduce_max(tf.where(is_too_much, tf.zeros_like(needed), needed))), tf.cast(k, tf.float64)
    )
    number = tf.cast(tf.minimum(most, exact.num_candidates), tf.int32)
    rows, scores = tf.cond(
        tf.reduce_all(is_too_much),
        lambda: _nothing(tf.shape(queries)[0], k),
        lambda: best_allowed(*search(queries, number), excluded, k, within),
    )
    left = tf.where(is_too_much | tf.reduce_any(rows < 0, axis=1))[:, 0]

    def search_left() -> tuple[tf.Tensor, tf.Tensor]:
        of_left = in_chunks(best_of, tf.size(left), exact.num_candidates)
        found = zip((rows, scores), of_left, strict=True)
        return tuple(tf.tensor_scatter_nd_update(old, left[:, tf.newaxis], new) for old, new in found)

    def best_of(start: tf.Tensor, stop: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        chosen = left[start:stop]
        allowed = tf.logical_not(rows_mask(tf.gather(excluded, chosen), exact.num_candidates))
        if within is not None:
            allowed &= tf.gather(within, chosen)
        products = exact.scores(tf.gather(queries, chosen))
        best = tf.math.top_k(tf.where(allowed, products, tf.float32.min), k)
        return tf.where(best.values > tf.float32.min, best.indices, -1), best.values

    return tf.cond(tf.size(left) > 0, search_left, lambda: (rows, scores))


def _nothing(batch: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.fill([batch, k], -1), tf.fill([batch, k], tf.float32.min)


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
