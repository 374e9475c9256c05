"""Softmax cross-entropy that never holds a matrix of all queries by all candidates.

The logits are computed for a chunk of queries at a time, and with them their share of both gradients, which are kept
instead of the logits: memory is linear in the batch, and a chunk stays in the processor's cache. The recombination is
exact, as each query's softmax lies within one chunk (the idea of Dao et al., "FlashAttention", NeurIPS 2022, in one
dimension). Queries of weight 0, as padded sequences have many, are put behind the others, and their chunks left out.

A chunk's logits have a row for each candidate and a column for each query: so the products that make them and that use
them are two to three times as fast on a processor as with queries in rows.
"""

from collections.abc import Callable

import tensorflow as tf

# A chunk has about this many logits, 4 MB.
_CHUNK_LOGITS = 1 << 20
_SMALLEST_CHUNK_ROWS = 64

_Rows = tuple[tf.Tensor, ...]


def cross_entropy(
    query: tf.Tensor,
    positive_logit: tf.Tensor,
    candidates: tf.Tensor,
    bias: tf.Tensor,
    query_ids: tf.Tensor,
    candidate_ids: tf.Tensor,
    weight: tf.Tensor,
    left_out: tf.RaggedTensor | None = None,
    num_hardest: int | None = None,
    decoupled: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes the weighted cross-entropy of each query's positive against it and all candidates with other ids.

    Args:
      query: [batch, embedding_dim] float32.
      positive_logit: [batch] float32, the logit of each query's own candidate.
      candidates: [num_candidates, embedding_dim] float32.
      bias: [num_candidates] float32, added to the logits of candidates; -inf leaves a candidate out.
      query_ids: [batch] int32; a candidate with the id of the query is left out, its positive apart.
      candidate_ids: [num_candidates] int32.
      weight: [batch] float32, not negative.
      left_out: [batch, (num_columns)] int32, further candidates that are left out of a row, its positive apart.
      num_hardest: only so many candidates with the largest logits stay in a row, of equal ones the first, beside its
        positive; all when None.
      decoupled: compare the positive with the candidates alone, as in Yeh et al., "Decoupled contrastive learning",
        ECCV 2022: its exponential is no part of the sum. A row without a candidate has loss 0 then.

    Returns:
      The weighted sum of losses, a scalar, differentiable with respect to `query`, `positive_logit` and `candidates`;
      and each row's loss, [batch] float32, which is not: 0 where the weight is.
    """

    @tf.custom_gradient
    def run(query: tf.Tensor, positive_logit: tf.Tensor, candidates: tf.Tensor):  # type: ignore[no-untyped-def]
        order = tf.argsort(tf.cast(weight == 0, tf.int32), stable=True)
        rows = tuple(tf.gather(row, order) for row in (query, positive_logit, query_ids, weight))
        ordered = None if left_out is None else tf.gather(left_out, order)
        *per_row, to_candidates = _loop(rows, candidates, bias, candidate_ids, ordered, num_hardest, decoupled)
        back = tf.math.invert_permutation(order)
        losses, to_query, to_positive = (tf.gather(column, back) for column in per_row)
        losses = tf.where(weight == 0, 0.0, losses)

        def gradient(upstream: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return upstream * to_query, upstream * to_positive, upstream * to_candidates

        return (tf.reduce_sum(losses * weight), losses), gradient

    return run(query, positive_logit, candidates)


def _loop(
    rows: _Rows,
    candidates: tf.Tensor,
    bias: tf.Tensor,
    candidate_ids: tf.Tensor,
    left_out: tf.RaggedTensor | None,
    num_hardest: int | None,
    decoupled: bool,
) -> _Rows:
    """Returns losses, and the gradients of their weighted sum to queries, positive logits and candidates.

    Chunks of rows that weigh nothing give zeros; such rows stand last.
    """
    batch_size, num_candidates, embedding_dim = _size(rows[0]), _size(candidates), rows[0].shape[1]
    chunk_rows = _chunk_rows(batch_size, num_candidates)
    num_chunks = -(-batch_size // chunk_rows)
    # Rows of zeros, whose weight is 0, fill up the last chunk: all chunks have one shape, as XLA wants it.
    padding = num_chunks * chunk_rows - batch_size
    num_weighty = tf.math.count_nonzero(rows[-1], dtype=tf.int32)
    num_used = tf.maximum(1, -(-num_weighty // chunk_rows))
    filled = (tf.pad(column, [[0, padding]] + [[0, 0]] * (column.shape.rank - 1)) for column in rows)
    rows = tuple(tf.reshape(column, [num_chunks, chunk_rows, *column.shape[1:]]) for column in filled)
    pairs_of_chunk = None if left_out is None else _pairs_of_chunks(left_out, chunk_rows)
    transposed = tf.transpose(candidates)

    def body(number: tf.Tensor, total: tf.Tensor, *arrays: tf.TensorArray) -> tuple[tf.Tensor, ...]:
        chunk = tuple(column[number] for column in rows)
        pairs = None if pairs_of_chunk is None else pairs_of_chunk(number)
        of_chunk = _chunk(chunk, candidates, transposed, bias, candidate_ids, pairs, num_hardest, decoupled)
        *per_row, to_candidates = of_chunk
        written = (target.write(number, value) for target, value in zip(arrays, per_row, strict=True))
        return number + 1, total + to_candidates, *written

    static_rows = chunk_rows if isinstance(chunk_rows, int) else None
    shapes = ([static_rows], [static_rows, embedding_dim], [static_rows])
    arrays = (tf.TensorArray(tf.float32, num_chunks, element_shape=shape) for shape in shapes)
    _, to_candidates, *arrays = tf.while_loop(
        lambda number, *_: number < num_used,
        body,
        (0, tf.zeros_like(candidates), *arrays),
        parallel_iterations=1,
    )
    losses, to_query, to_positive = (target.stack() for target in arrays)
    return (
        tf.reshape(losses, [-1])[:batch_size],
        tf.reshape(to_query, [-1, embedding_dim])[:batch_size],
        tf.reshape(to_positive, [-1])[:batch_size],
        to_candidates,
    )


def _size(tensor: tf.Tensor) -> int | tf.Tensor:
    """The length of axis 0, as a number where it is static."""
    return tf.shape(tensor)[0] if tensor.shape[0] is None else tensor.shape[0]


def _chunk_rows(batch_size: int | tf.Tensor, num_candidates: int | tf.Tensor) -> int | tf.Tensor:
    if isinstance(batch_size, int) and isinstance(num_candidates, int):
        return min(batch_size, max(_SMALLEST_CHUNK_ROWS, _CHUNK_LOGITS // num_candidates))
    return tf.minimum(batch_size, tf.maximum(_SMALLEST_CHUNK_ROWS, _CHUNK_LOGITS // num_candidates))


def _pairs_of_chunks(left_out: tf.RaggedTensor, chunk_rows: int | tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function from a chunk's number to [num_pairs, 2] int64, a candidate and a query of the chunk each."""
    pairs = tf.stack([tf.cast(left_out.values, tf.int64), left_out.value_rowids()], axis=1)
    batch_size = tf.cast(left_out.nrows(), tf.int32)

    def of(number: tf.Tensor) -> tf.Tensor:
        first_row = number * chunk_rows
        start = left_out.row_splits[first_row]
        end = left_out.row_splits[tf.minimum(first_row + chunk_rows, batch_size)]
        return pairs[start:end] - tf.stack([0, tf.cast(first_row, tf.int64)])

    return of


def _only_hardest(logits: tf.Tensor, number: int) -> tf.Tensor:
    """Leaves each query its largest logits, and -inf elsewhere: [num_candidates, queries]."""
    shape = tf.shape(logits)
    hardest = tf.math.top_k(tf.transpose(logits), tf.minimum(number, shape[0]))
    queries = tf.broadcast_to(tf.range(shape[1])[:, tf.newaxis], tf.shape(hardest.indices))
    nothing = tf.fill(shape, -float("inf"))
    return tf.tensor_scatter_nd_update(nothing, tf.stack([hardest.indices, queries], axis=2), hardest.values)


def _chunk(
    rows: _Rows,
    candidates: tf.Tensor,
    transposed_candidates: tf.Tensor,
    bias: tf.Tensor,
    candidate_ids: tf.Tensor,
    left_out: tf.Tensor | None,
    num_hardest: int | None,
    decoupled: bool,
) -> _Rows:
    """Returns a chunk's losses and gradients: [queries], [queries, dim], [queries], [num_candidates, dim]."""
    query, positive_logit, query_ids, weight = rows
    logits = tf.matmul(candidates, query, transpose_b=True) + bias[:, tf.newaxis]
    logits = tf.where(candidate_ids[:, tf.newaxis] == query_ids, -float("inf"), logits)
    if left_out is not None:
        logits = tf.tensor_scatter_nd_update(logits, left_out, tf.fill(tf.shape(left_out)[:1], -float("inf")))
    if num_hardest is not None:
        logits = _only_hardest(logits, num_hardest)

    largest = tf.reduce_max(logits, axis=0)
    if decoupled:
        largest = tf.where(largest == -float("inf"), 0.0, largest)
        own = tf.zeros_like(weight)
    else:
        largest = tf.maximum(largest, positive_logit)
        own = tf.exp(positive_logit - largest)
    exponential = tf.exp(logits - largest)
    total = tf.reduce_sum(exponential, axis=0) + own
    # Only a decoupled query can have a total of 0: nothing is left to compare its positive with.
    weight = tf.where(total == 0, 0.0, weight)
    losses = tf.where(total == 0, 0.0, tf.math.log(total) + largest - positive_logit)

    # The gradient of the weighted loss to a logit is weight · (softmax - 1 for the positive). The factors of a query
    # are applied to the narrow matrices, as every pass over the logits costs.
    factor = tf.math.divide_no_nan(weight, total)
    to_query = tf.transpose(factor * tf.matmul(transposed_candidates, exponential))
    to_candidates = tf.matmul(exponential, factor[:, tf.newaxis] * query)
    return losses, to_query, factor * own - weight, to_candidates
