"""How much of the exact answer an index finds."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from serving.index import Index

# Queries [batch, embedding_dim] and a scalar k → rows and scores [batch, k], as `Index.search` gives them.
Search = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]

_QUERIES_PER_BATCH = 256
# Scores this close are equal but for the rounding of float32 sums.
_ROUNDING = 1e-5
# The 95 % quantile of the normal distribution.
_ONE_SIDED_95_PERCENT = 1.645


def least_right_scores(exact: Index, queries: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.float32]:
    """Returns the score from which a candidate is one of the k best of a query: [num_queries] float32.

    A candidate whose score equals the k-th best is a right answer, whichever of several such it is.

    Args:
      exact: brute force over the candidates.
      queries: [num_queries, embedding_dim] float32.
      k: 1 … `num_candidates`.
    """
    found = []
    for batch in _batches(queries):
        best = exact.search(batch, tf.constant(k))[1]
        found.append((best[:, -1] - _ROUNDING * tf.reduce_max(tf.abs(best), axis=1)).numpy())
    return np.concatenate(found)


def recalls(
    search: Search, least_right: npt.NDArray[np.float32], queries: npt.NDArray[np.float32], k: int
) -> npt.NDArray[np.float64]:
    """Returns the share of the k best candidates that a search finds, for each query: [num_queries] float64.

    Args:
      search: what to judge.
      least_right: [num_queries] float32, as `least_right_scores` gives them.
      queries: [num_queries, embedding_dim] float32.
      k: 1 … `num_candidates`.
    """
    scores = np.concatenate([search(batch, tf.constant(k))[1].numpy() for batch in _batches(queries)])
    return (scores >= least_right[:, np.newaxis]).mean(axis=1, dtype=np.float64)


def _batches(queries: npt.NDArray[np.float32]) -> Iterator[tf.Tensor]:
    for start in range(0, len(queries), _QUERIES_PER_BATCH):
        yield tf.constant(queries[start : start + _QUERIES_PER_BATCH])


def lower_bound(values: npt.NDArray[np.float64]) -> float:
    """Returns what the mean of all such values exceeds with 95 % confidence, by its standard error.

    Args:
      values: [number] float64, a sample of two or more.
    """
    return float(values.mean() - _ONE_SIDED_95_PERCENT * values.std(ddof=1) / math.sqrt(len(values)))
