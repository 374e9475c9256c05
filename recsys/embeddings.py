"""Embedding tables, and the layers that read them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from recsys.schema import PADDING_ID, Feature


class EmbeddingTable(tf.keras.layers.Layer):
    """A row for each id; zeros for padding.

    Attributes:
      table: [num_ids, embedding_dim] float32.
      read: int32 ids of any shape → their rows of the table, [..., embedding_dim] float32. Whoever keeps the table
        otherwise replaces it.
    """

    def __init__(
        self, num_ids: int, embedding_dim: int, initial_stddev: float, name: str, static_shapes: bool = False
    ) -> None:
        """Makes a table of [num_ids, embedding_dim] float32, drawn from a normal distribution around 0.

        Args:
          num_ids: its rows.
          embedding_dim: its columns.
          initial_stddev: of the distribution.
          name: of the layer.
          static_shapes: whether no shape may depend on how much of a bag is padding, as XLA wants it.
        """
        super().__init__(name=name)
        self._num_ids = num_ids
        self._embedding_dim = embedding_dim
        self._initial_stddev = initial_stddev
        self._static_shapes = static_shapes

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the table."""
        self.table = self.add_weight(
            name="table",
            shape=(self._num_ids, self._embedding_dim),
            initializer=tf.keras.initializers.RandomNormal(stddev=self._initial_stddev),
        )
        self.read: Callable[[tf.Tensor], tf.Tensor] = partial(tf.nn.embedding_lookup, self.table)
        super().build(input_shape)

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns [..., embedding_dim] float32 for [...] int32 ids."""
        present = tf.cast(ids != PADDING_ID, self.compute_dtype)[..., tf.newaxis]
        return self.read(ids) * present

    def sum_of(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns [..., embedding_dim] float32, the sums of the embeddings of each row of [..., max_length] int32 ids.

        Rows of the table are summed where they stand: a tensor with an embedding of every id, padding as well, would
        take ten times as long to write as the sums. XLA writes none anyway.
        """
        if self._static_shapes:
            return tf.reduce_sum(EmbeddingTable.call(self, ids), axis=-2)
        present_ids, row = _present(ids)
        distinct, index = tf.unique(present_ids)
        embedded = self.read(distinct)
        return _by_row(tf.sparse.segment_sum(embedded, index, row, num_segments=_num_rows(ids)), ids)


class SumBag(EmbeddingTable):
    """The sum of the embeddings of a row's ids; zeros where there are none."""

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns [..., embedding_dim] float32 for [..., max_length] int32 ids."""
        return self.sum_of(ids)


class MeanBag(SumBag):
    """The mean of the embeddings of a row's ids; padding has no share in it, and a row of padding only gives zeros."""

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns [..., embedding_dim] float32 for [..., max_length] int32 ids."""
        return tf.math.divide_no_nan(super().call(ids), _number(ids, self.compute_dtype))


class SharedMean(tf.keras.layers.Layer):
    """The mean of the embeddings that a row's ids have in the table of another layer, as `MeanBag` of its own one."""

    def __init__(self, shared: EmbeddingTable, name: str) -> None:
        """Takes the layer whose table is read."""
        super().__init__(name=name)
        self._shared = shared

    def call(self, ids: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns [..., embedding_dim] float32 for [..., max_length] int32 ids.

        Outside of training the rows are gathered: few ask at once, and converters of models know no fused sums.
        """
        sums = self._shared.sum_of(ids) if training else tf.reduce_sum(self._shared(ids), axis=-2)
        return tf.math.divide_no_nan(sums, _number(ids, self.compute_dtype))


class AttentionBag(EmbeddingTable):
    """A mean of the embeddings of a row's ids in which each weighs by how well it answers a learned query.

    For embeddings e(i) and the query u, id i weighs exp(u · e(i)) / Σ_j exp(u · e(j)), where j runs over the row's ids
    without padding (Yang et al., "Hierarchical attention networks for document classification", NAACL 2016, equation
    6). The query starts as zeros, which give the plain mean. A row of padding only gives zeros.
    """

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the table and the query."""
        super().build(input_shape)
        self.query = self.add_weight(name="query", shape=(self._embedding_dim,), initializer="zeros")

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns [..., embedding_dim] float32 for [..., max_length] int32 ids."""
        if self._static_shapes:
            embedded = super().call(ids)
            score = tf.where(ids != PADDING_ID, tf.linalg.matvec(embedded, self.query), tf.float32.min)
            return tf.linalg.matvec(embedded, tf.nn.softmax(score), transpose_a=True)
        present_ids, row = _present(ids)
        num_rows = _num_rows(ids)
        embedded = self.read(present_ids)
        score = tf.linalg.matvec(embedded, self.query)
        # A softmax is the same for shifted scores; of the largest one in the row, none overflows.
        largest = tf.math.unsorted_segment_max(tf.stop_gradient(score), row, num_rows)
        weight = tf.exp(score - tf.gather(largest, row))[:, tf.newaxis]
        total = tf.math.unsorted_segment_sum(weight, row, num_rows)
        pooled = tf.math.unsorted_segment_sum(weight * embedded, row, num_rows)
        return _by_row(tf.math.divide_no_nan(pooled, total), ids)


def _number(ids: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """[..., 1]: how many of [..., max_length] ids are not padding."""
    return tf.reduce_sum(tf.cast(ids != PADDING_ID, dtype), axis=-1, keepdims=True)


def _present(ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Of [..., max_length] ids those that are not padding, and their rows when all axes before are one; [number]."""
    rows = tf.reshape(ids, [-1, ids.shape[-1]])
    places = tf.where(rows != PADDING_ID)
    return tf.gather_nd(rows, places), places[:, 0]


def _num_rows(ids: tf.Tensor) -> tf.Tensor:
    return tf.size(ids) // ids.shape[-1]


def _by_row(pooled: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """[..., embedding_dim] for [rows, embedding_dim] that were pooled of [..., max_length] ids."""
    embedding_dim = pooled.shape[-1]
    shaped = tf.reshape(pooled, tf.concat([tf.shape(ids)[:-1], [embedding_dim]], axis=0))
    return tf.ensure_shape(shaped, [*ids.shape[:-1], embedding_dim])


class ItemContent(tf.keras.layers.Layer):
    """What a feature of the catalogue says of the items of a history, which are known by their ids."""

    def __init__(self, item_id: Feature, ids: npt.NDArray[Any], values: npt.NDArray[Any], name: str) -> None:
        """Takes the catalogue's item ids, [num_items], and the feature's values of the same items.

        Items that share an out-of-vocabulary id have no content here.
        """
        super().__init__(name=name)
        self._by_id = np.zeros((item_id.num_ids, *values.shape[1:]), values.dtype)
        known = ids >= item_id.first_known_id
        self._by_id[ids[known]] = values[known]

    def build(self, input_shape: tf.TensorShape) -> None:
        """Keeps the values beside the weights, where a saved model holds them once."""
        self.values = self.add_weight(
            name="values",
            shape=self._by_id.shape,
            dtype=self._by_id.dtype,
            initializer=tf.constant_initializer(self._by_id),
            trainable=False,
        )
        super().build(input_shape)

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns the values, [...] or [..., max_length], of [...] int32 item ids."""
        return tf.gather(self.values, ids)


class IdDropout(tf.keras.__internal__.layers.BaseRandomLayer):
    """Makes ids out-of-vocabulary at random in training, so that the rows of unknown values learn what to say.

    A dropped id becomes one of the ids 1 … `num_oov`; padding stays.
    """

    def __init__(self, feature: Feature, rate: float, name: str) -> None:
        """Takes the share of ids to drop, 0 ≤ `rate` < 1."""
        super().__init__(name=name)
        self._num_oov = feature.num_oov
        self._rate = rate

    def call(self, ids: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns ids of the same shape for [...] int32 ids; unchanged outside of training."""
        if not training or self._rate == 0:
            return ids
        draw, shape = self._random_generator.random_uniform, tf.shape(ids)
        drop = (draw(shape) < self._rate) & (ids != PADDING_ID)
        unknown = draw(shape, 1, 1 + self._num_oov, dtype=ids.dtype)
        return tf.where(drop, unknown, ids)
