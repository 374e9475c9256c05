"""How much of the exact answer an index finds."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from recsys.config import IndexConfig
from recsys.errors import IndexQualityError
from serving.index import Index

_QUERIES_PER_BATCH = 256
# Scores this close are equal but for the rounding of float32 sums.
_ROUNDING = 1e-5


def recall(index: Index, exact: Index, queries: npt.NDArray[np.float32], k: int) -> float:
    """Returns the mean share of the k best candidates that `index` finds.

    A candidate whose score equals the k-th best is a right answer, whichever of several such it is.

    Args:
      index: what to judge.
      exact: brute force over the same candidates.
      queries: [num_queries, embedding_dim] float32.
      k: 1 … `num_candidates`.
    """
    found = []
    for start in range(0, len(queries), _QUERIES_PER_BATCH):
        batch = tf.constant(queries[start : start + _QUERIES_PER_BATCH])
        best = exact.search(batch, tf.constant(k))[1]
        scores = index.search(batch, tf.constant(k))[1]
        right = scores >= best[:, -1:] - _ROUNDING * tf.reduce_max(tf.abs(best), axis=1, keepdims=True)
        found.append(tf.reduce_mean(tf.cast(right, tf.float32), axis=1).numpy())
    return float(np.concatenate(found).mean())


def require_recall(index: Index, exact: Index, queries: npt.NDArray[np.float32], config: IndexConfig) -> float:
    """Returns the recall at `config.recall_k`, or at the catalogue's size where that is smaller.

    Raises:
      IndexQualityError: it is below `config.recall_target`.
    """
    k = min(config.recall_k, index.num_candidates)
    reached = recall(index, exact, queries, k)
    if reached < config.recall_target:
        raise IndexQualityError(
            f"index recall@{k} is {reached:.4f}: expected at least {config.recall_target}; "
            "search more leaves, --set index.fraction_of_leaves=1, or reorder more, --set index.reorder_factor=50"
        )
    return reached
