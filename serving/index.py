"""Indices over candidate embeddings: exact search, and ScaNN.

Both are `tf.Module`s that work in a `tf.function` and in a SavedModel, and keep one contract, `Index`.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from serving.chunks import in_chunks
from serving.leaf_order import in_leaf_order
from serving.scann_library import ReorderType, scann_ops

# ScaNN's documentation recommends 2; with 1, fewer need reordering, and a search is faster (decision 12).
_DIMENSIONS_PER_BLOCK = 1
# As its documentation recommends for dot products.
_ANISOTROPIC_THRESHOLD = 0.2
# Of fewer, many partitions of a large catalogue miss the clusters that there are.
_SAMPLE_PER_LEAF = 256
# Smaller batches lose more by being divided among the processors than they gain.
_DIVIDE_FROM = 32

ReorderDtype = Literal["float32", "bfloat16", "int8"]
_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}


@dataclass(frozen=True)
class Effort:
    """How much of a ScaNN index a query looks at.

    Attributes:
      leaves: partitions searched.
      reorder_factor: candidates scored exactly, as a multiple of `k`, 1 or more.
      least_k: the multiple is of this number where it is larger than `k`: what is enough for a hundred candidates may
        miss one of the ten best.
    """

    leaves: int
    reorder_factor: float
    least_k: int = 1


class Index(Protocol):
    """Finds the candidates with the largest dot products."""

    num_candidates: int

    def search(
        self, queries: tf.Tensor, k: tf.Tensor, leaves: tf.Tensor = 0, reorder_factor: tf.Tensor = 0.0
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Searches.

        Args:
          queries: [batch, embedding_dim] float32.
          k: scalar int32, 1 … `num_candidates`.
          leaves: scalar int32, of the `Effort` of this search; 0 as the index is tuned. An exact index always looks at
            everything.
          reorder_factor: scalar float32, likewise; a multiple of `k` alone.

        Returns:
          Rows [batch, k] int32 and dot products [batch, k] float32, best first, ties by row. An approximate search
          takes any of those that are tied for the last place. Where it finds fewer than k, row -1 and the smallest
          float32 fill up.
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
        reorder_factor: tf.Tensor = 0.0,
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
      is_brute_force: whether it searches without partitions and hashing.
      num_leaves: partitions; 1 for brute force.
      reorder_dtype: the numbers that the best candidates of partitions are compared by.
      effort: of a search that names none; exhaustive until it is tuned (`serving.autotune`).
    """

    def __init__(
        self, exact: ExactIndex, num_leaves: int | None = None, reorder_dtype: ReorderDtype = "float32"
    ) -> None:
        """Builds the index of the candidates of `exact`.

        Args:
          exact: shared, not copied: it scores what the index finds by smaller numbers.
          num_leaves: partitions, 1 … `num_candidates`, of at least 16 candidates; brute force, by float32 numbers, when
            None.
          reorder_dtype: see the class.
        """
        super().__init__()
        self.num_candidates, self._exact = exact.num_candidates, exact
        self.is_brute_force = num_leaves is None
        self.num_leaves = 1 if num_leaves is None else num_leaves
        self.reorder_dtype: ReorderDtype = "float32" if self.is_brute_force else reorder_dtype
        self.effort = Effort(self.num_leaves, self.num_candidates)
        builder = scann_ops.builder(exact.candidates.numpy(), min(100, self.num_candidates), "dot_product")
        if self.is_brute_force:
            builder.score_brute_force()
        else:
            builder.tree(self.num_leaves, self.num_leaves, training_sample_size=_SAMPLE_PER_LEAF * self.num_leaves)
            builder.score_ah(_DIMENSIONS_PER_BLOCK, anisotropic_quantization_threshold=_ANISOTROPIC_THRESHOLD)
            builder.reorder(self.num_candidates, ReorderType[reorder_dtype.upper()])
        self.state = builder.build().serialize_to_module()
        self._order: tf.Variable | None = None
        if self.reorder_dtype == "bfloat16":
            self.state.dataset = exact.candidates  # ScaNN does not save these numbers, but makes them when it loads
        elif not self.is_brute_force:
            self.state, order = in_leaf_order(self.state)
            self._order = tf.Variable(order, trainable=False)

    @property
    def bytes_per_item(self) -> float:
        """What the index holds in memory, beside the candidates themselves, per candidate.

        Its variables, and what ScaNN makes of them when it loads: the numbers to reorder by, a byte for each
        dimension's code and, of partitions, half of one more, packed for the processor.
        """
        held = (np.asarray(variable.numpy()) for variable in self.variables if variable is not self._exact.candidates)
        saved = sum(sum(map(len, value.flat)) if value.dtype == object else value.nbytes for value in held)
        codes = 0 if self.is_brute_force else 1.5
        loaded = self._exact.candidates.shape[1] * (_BYTES[self.reorder_dtype] + codes)
        return saved / self.num_candidates + loaded

    def search(
        self, queries: tf.Tensor, k: tf.Tensor, leaves: tf.Tensor = 0, reorder_factor: tf.Tensor = 0.0
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Index.search`."""
        if self.is_brute_force:
            return self._search(queries, k, self.num_leaves, self.num_candidates)
        num_reordered = self._num_reordered(k, tf.convert_to_tensor(reorder_factor, tf.float32))
        known = tf.get_static_value(leaves)
        leaves = tf.where(tf.greater(leaves, 0), tf.minimum(leaves, self.num_leaves), self.effort.leaves)
        if known is not None and (known if known > 0 else self.effort.leaves) < self.num_leaves:
            return self._search(queries, k, leaves, num_reordered)
        return tf.cond(
            (leaves < self.num_leaves) | (num_reordered < self.num_candidates),
            lambda: self._search(queries, k, leaves, num_reordered),
            lambda: self._exact.search(queries, k),  # which is just that, with less work
        )

    def _num_reordered(self, k: tf.Tensor, reorder_factor: tf.Tensor) -> tf.Tensor:
        """How many candidates are scored exactly, scalar int32."""
        tuned = tf.maximum(tf.cast(k, tf.float64), self.effort.least_k) * self.effort.reorder_factor
        asked = tf.cast(k, tf.float64) * tf.cast(reorder_factor, tf.float64)
        number = tf.math.ceil(tf.where(tf.greater(reorder_factor, 0), asked, tuned))
        return tf.cast(tf.minimum(number, self.num_candidates), tf.int32)

    def _search(
        self, queries: tf.Tensor, k: tf.Tensor, leaves: tf.Tensor, num_reordered: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        rows, scores = self._find(queries, k, leaves, num_reordered)
        # ScaNN answers with fewer columns, and with row 0 and NaN, where it found fewer than k.
        missing = tf.math.is_nan(scores)
        if self._order is not None:
            rows = tf.gather(self._order, rows)
        if self.reorder_dtype != "float32":
            scores = self._scores_of(queries, rows)
        fill = [[0, 0], [0, tf.maximum(k - tf.shape(rows)[1], 0)]]
        rows = tf.pad(tf.where(missing, -1, rows), fill, constant_values=-1)
        scores = tf.pad(tf.where(missing, tf.float32.min, scores), fill, constant_values=tf.float32.min)
        if self.reorder_dtype != "float32":
            return _best(rows, scores, k)
        return _ties_by_row(rows, scores)[:, :k], scores[:, :k]

    def _find(
        self, queries: tf.Tensor, k: tf.Tensor, leaves: tf.Tensor, num_reordered: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """ScaNN's rows and scores in the order of scores; of equal ones, in any."""
        searcher = scann_ops.searcher_from_module(self.state)
        # Of one neighbour it would not say which of equal ones.
        found = tf.clip_by_value(k, 2, self.num_candidates)
        how = {
            "final_num_neighbors": found,
            "pre_reorder_num_neighbors": tf.maximum(num_reordered, found),
            "leaves_to_search": leaves,
        }
        return tf.cond(
            tf.shape(queries)[0] >= _DIVIDE_FROM,
            lambda: searcher.search_batched_parallel(queries, **how),
            lambda: searcher.search_batched(queries, **how),
        )

    def _scores_of(self, queries: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Dot products with [batch, found] rows, [batch, found] float32."""

        def of(start: tf.Tensor, stop: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            candidates = tf.gather(self._exact.candidates, rows[start:stop])
            return rows[start:stop], tf.einsum("qd,qkd->qk", queries[start:stop], candidates)

        return in_chunks(of, tf.shape(queries)[0], tf.size(rows[:1]) * queries.shape[1])[1]


def _ties_by_row(rows: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """Returns the rows of descending scores with those of equal ones ascending; few queries have such to sort."""
    is_wrong = tf.equal(scores[:, 1:], scores[:, :-1]) & (rows[:, 1:] < rows[:, :-1])
    queries = tf.where(tf.reduce_any(is_wrong, axis=1))
    in_order, _ = _best(tf.gather_nd(rows, queries), tf.gather_nd(scores, queries), tf.shape(rows)[1])
    return tf.tensor_scatter_nd_update(rows, queries, in_order)


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
