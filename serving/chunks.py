"""Answers a batch a few rows at a time: what is compared with the whole catalogue takes memory that does not grow."""

from collections.abc import Callable

import tensorflow as tf

# Of the rows that are compared with the catalogue at once; 64 MB.
_SCORES_AT_ONCE = 2**24

# The rows `start` … `stop - 1` of a batch → rows and scores of their best candidates.
Best = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def in_chunks(best: Best, batch: tf.Tensor, num_candidates: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds the best candidates of a batch, chunk after chunk.

    Args:
      best: from scalars int32 `start` and `stop`, rows [stop - start, k] int32 and scores [stop - start, k] float32.
      batch: scalar int32, how many rows there are.
      num_candidates: how many candidates each of them is compared with, an int or a scalar int32.

    Returns:
      Rows [batch, k] int32 and scores [batch, k] float32.
    """
    size = tf.maximum(1, _SCORES_AT_ONCE // tf.maximum(num_candidates, 1))
    number = tf.maximum(-(-batch // size), 1)  # of no rows, k is yet to be known

    def add(chunk: tf.Tensor, *arrays: tf.TensorArray) -> tuple[tf.Tensor, ...]:
        found = best(chunk * size, tf.minimum((chunk + 1) * size, batch))
        return chunk + 1, *(array.write(chunk, part) for array, part in zip(arrays, found, strict=True))

    empty = (
        tf.TensorArray(dtype, number, infer_shape=False, element_shape=[None, None]) for dtype in (tf.int32, tf.float32)
    )
    _, rows, scores = tf.while_loop(lambda chunk, *_: chunk < number, add, (0, *empty), parallel_iterations=1)
    return rows.concat(), scores.concat()
