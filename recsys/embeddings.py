"""Embedding tables, and the layers that read them."""

import tensorflow as tf

from recsys.schema import PADDING_ID, Feature

_INITIAL_STDDEV = 0.1


class EmbeddingBag(tf.keras.layers.Layer):
    """The mean of the embeddings of a row's ids; padding has no share in it, and a row of padding only gives zeros."""

    def __init__(self, num_ids: int, embedding_dim: int, name: str) -> None:
        """Makes a table of [num_ids, embedding_dim] float32, drawn from a normal distribution."""
        super().__init__(name=name)
        self._num_ids = num_ids
        self._embedding_dim = embedding_dim

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the table."""
        self.table = self.add_weight(
            name="table",
            shape=(self._num_ids, self._embedding_dim),
            initializer=tf.keras.initializers.RandomNormal(stddev=_INITIAL_STDDEV),
        )
        super().build(input_shape)

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns [batch, embedding_dim] float32 for [batch] or [batch, max_length] int32 ids."""
        present = tf.cast(ids != PADDING_ID, self.compute_dtype)[..., tf.newaxis]
        embedded = tf.nn.embedding_lookup(self.table, ids) * present
        if ids.shape.rank == 1:
            return embedded
        return tf.math.divide_no_nan(tf.reduce_sum(embedded, axis=1), tf.reduce_sum(present, axis=1))


class IdDropout(tf.keras.layers.Layer):
    """Makes ids out-of-vocabulary at random in training, so that the rows of unknown values learn what to say.

    A dropped id becomes one of the ids 1 … `num_oov`; padding stays.
    """

    def __init__(self, feature: Feature, rate: float, name: str) -> None:
        """Takes the share of ids to drop, 0 ≤ `rate` < 1."""
        super().__init__(name=name)
        self._num_oov = feature.num_oov
        self._rate = rate

    def call(self, ids: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns ids of the same shape; unchanged outside of training."""
        if not training or self._rate == 0:
            return ids
        drop = (tf.random.uniform(tf.shape(ids)) < self._rate) & (ids != PADDING_ID)
        unknown = tf.random.uniform(tf.shape(ids), 1, 1 + self._num_oov, dtype=ids.dtype)
        return tf.where(drop, unknown, ids)
