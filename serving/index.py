"""Indices over candidate embeddings: exact search, and ScaNN.

Both are `tf.Module`s that work in a `tf.function` and in a SavedModel, and keep one contract, `Index`.
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from recsys.config import IndexConfig
from serving.chunks import in_chunks
from serving.scann_library import ReorderType, scann_ops

# Two dimensions per code and this threshold are what ScaNN's own documentation recommends for dot products.
_DIMENSIONS_PER_BLOCK = 2
_ANISOTROPIC_THRESHOLD = 0.2
# Of fewer, many partitions of a large catalogue miss the clusters that there are.
_SAMPLE_PER_LEAF = 256
# Smaller batches lose more by being divided among the processors than they gain.
_DIVIDE_FROM = 32

ReorderDtype = Literal["float32", "int8"]


@dataclass(frozen=True)
class Effort:
    """How much of a ScaNN index a query looks at.

    Attributes:
      leaves: partitions searched.
      reorder_factor: candidates scored exactly, as a multiple of `k`.
    """

    leaves: int
    reorder_factor: int


class Index(Protocol):
    """Finds the candidates with the largest dot products."""

    num_candidates: int

    def search(
        self, queries: tf.Tensor, k: tf.Tensor, leaves: tf.Tensor = 0, reorder_factor: tf.Tensor = 0
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Searches.

        Args:
          queries: [batch, embedding_dim] float32.
          k: scalar int32, 1 … `num_candidates`.
          leaves: scalar int32, of the `Effort` of this search; 0 as the index is tuned. An exact index always looks at
            everything.
          reorder_factor: likewise.

        Returns:
          Rows [batch, k] int32 and dot products [batch, k] float32, best first, ties by row. Where an approximate
          search finds fewer than k, row -1 and the smallest float32 fill up.
        """


class ExactIndex(tf.Module):
    """Brute force: compares every query with every candidate."""

    def __init__(self, candidates: npt.NDArray[np.float32]) -> None:
        """Takes [num_candidates, embedding_dim] embeddings."""
        super().__init__()
        self.num_candidates = len(candidates)
        self.candidates = tf.Variable(candidates, trainable=False)

    def search(
        self,
        queries: tf.Tensor,
        k: tf.Tensor,
        leaves: tf.Tensor = 0,
        reorder_factor: tf.Tensor = 0,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Index.search`."""

        def best_of(start: tf.Tensor, stop: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            best = tf.math.top_k(self.scores(queries[start:stop]), k)
            return best.indices, best.values

        return in_chunks(best_of, tf.shape(queries)[0], self.num_candidates)

    def scores(self, queries: tf.Tensor) -> tf.Tensor:
        """Returns the dot products with all candidates, [batch, num_candidates] float32."""
        return tf.matmul(queries, self.candidates, transpose_b=True)


class ScannIndex(tf.Module):
    """ScaNN: a partitioning tree, asymmetric hashing within the leaves, exact reordering of the best.

    Source: Guo et al., "Accelerating large-scale inference with anisotropic vector quantization", ICML 2020.

    Attributes:
      is_brute_force: whether a small catalogue is searched without partitions and hashing.
      num_leaves: partitions; 1 where a small catalogue is searched by brute force.
      effort: of a search that names none; exhaustive until it is tuned (`serving.autotune`).
    """

    def __init__(self, exact: ExactIndex, config: IndexConfig, reorder_dtype: ReorderDtype = "float32") -> None:
        """Builds the index of the candidates of `exact`.

        Args:
          exact: shared, not copied: it scores what the index finds by smaller numbers.
          config: the index's shape.
          reorder_dtype: the numbers that the best candidates of partitions are compared by; brute force, which is
            for small catalogues, takes float32.
        """
        super().__init__()
        self.num_candidates, self._exact = exact.num_candidates, exact
        self.is_brute_force = self.num_candidates < config.brute_force_below
        leaves = max(1, round(config.leaves_per_sqrt_item * math.sqrt(self.num_candidates)))
        self.num_leaves = 1 if self.is_brute_force else leaves
        self.effort = Effort(self.num_leaves, self.num_candidates)
        self._has_exact_scores = self.is_brute_force or reorder_dtype == "float32"
        builder = scann_ops.builder(exact.candidates.numpy(), min(100, self.num_candidates), "dot_product")
        if self.is_brute_force:
            builder.score_brute_force()
        else:
            builder.tree(self.num_leaves, self.num_leaves, training_sample_size=_SAMPLE_PER_LEAF * self.num_leaves)
            builder.score_ah(_DIMENSIONS_PER_BLOCK, anisotropic_quantization_threshold=_ANISOTROPIC_THRESHOLD)
            builder.reorder(self.num_candidates, ReorderType[reorder_dtype.upper()])
        self.state = builder.build().serialize_to_module()

    @property
    def bytes_per_item(self) -> float:
        """What the index holds in memory, beside the candidates themselves, per candidate."""
        held = (np.asarray(variable.numpy()) for variable in self.state.variables)
        total = sum(sum(map(len, value.flat)) if value.dtype == object else value.nbytes for value in held)
        return total / self.num_candidates

    def search(
        self, queries: tf.Tensor, k: tf.Tensor, leaves: tf.Tensor = 0, reorder_factor: tf.Tensor = 0
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Index.search`."""
        leaves = tf.where(tf.greater(leaves, 0), tf.minimum(leaves, self.num_leaves), self.effort.leaves)
        reorder_factor = tf.where(tf.greater(reorder_factor, 0), reorder_factor, self.effort.reorder_factor)
        rows, scores = self._find(queries, k, leaves, reorder_factor)
        # ScaNN answers with fewer columns, and with row 0 and NaN, where it found fewer than k.
        missing = tf.math.is_nan(scores)
        if not self._has_exact_scores:
            scores = tf.einsum("qd,qkd->qk", queries, tf.gather(self._exact.candidates, rows))
        fill = [[0, 0], [0, tf.maximum(k - tf.shape(rows)[1], 0)]]
        rows = tf.pad(tf.where(missing, -1, rows), fill, constant_values=-1)
        scores = tf.pad(tf.where(missing, tf.float32.min, scores), fill, constant_values=tf.float32.min)
        return _best(rows, scores, k)

    def _find(
        self, queries: tf.Tensor, k: tf.Tensor, leaves: tf.Tensor, reorder_factor: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Rows and scores in the order of scores; of equal ones, in any."""
        searcher = scann_ops.searcher_from_module(self.state)
        how = {
            # Of one neighbour it would not say which of equal ones.
            "final_num_neighbors": tf.clip_by_value(k, 2, self.num_candidates),
            # Divided first: the product may be beyond int32.
            "pre_reorder_num_neighbors": tf.where(
                reorder_factor > self.num_candidates // k, self.num_candidates, k * reorder_factor
            ),
            "leaves_to_search": leaves,
        }
        return tf.cond(
            tf.shape(queries)[0] >= _DIVIDE_FROM,
            lambda: searcher.search_batched_parallel(queries, **how),
            lambda: searcher.search_batched(queries, **how),
        )


def _best(rows: tf.Tensor, scores: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the first k by descending score, equal ones by ascending row, -1 or more.

    Both are sorted as one integer, the score in its upper half: a single sort, and nothing to gather.
    """
    bits = tf.bitcast(tf.where(tf.equal(scores, 0), 0.0, scores), tf.int32)  # a single zero: -0 has other bits
    lower = tf.int32.max - tf.cast(rows, tf.int64)
    keys = tf.math.top_k(tf.bitwise.left_shift(tf.cast(_as_integers(bits), tf.int64), 32) + lower, k).values
    upper, lower = tf.bitwise.right_shift(keys, 32), tf.bitwise.bitwise_and(keys, 0xFFFFFFFF)
    return tf.cast(tf.int32.max - lower, tf.int32), tf.bitcast(_as_integers(tf.cast(upper, tf.int32)), tf.float32)


def _as_integers(bits: tf.Tensor) -> tf.Tensor:
    """Bits of float32 numbers as int32 in the same order; applied twice, the bits again."""
    return tf.where(bits < 0, tf.bitwise.bitwise_xor(bits, tf.int32.max), bits)
