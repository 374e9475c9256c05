"""Encoders of what a user took before: embedded items, oldest first → one embedding, or one at every position.

Each is causal: what it says at a position depends on the items up to it. So one pass over a sequence gives the query
after each of its items, and the last of them is the query of today.
"""

from typing import assert_never

import tensorflow as tf

from recsys.config import GruEncoder, HistoryConfig, MeanEncoder, RecencyEncoder, SelfAttentionEncoder

_POSITION_STDDEV = 0.02


class HistoryEncoder(tf.keras.layers.Layer):
    """The base of encoders. Calling one gives [batch, dim] float32, zeros where there is no history.

    Args of a call:
      embedded: [batch, length, dim] float32, oldest first, then zeros.
      present: [batch, length] bool; the rest is padding, which has no effect.
      every_position: whether to return [batch, length, dim], what is known after each item, instead. At padding it
        means nothing.
    """

    def call(
        self, embedded: tf.Tensor, present: tf.Tensor, training: bool | None = None, every_position: bool = False
    ) -> tf.Tensor:
        """Returns [batch, dim] float32, or [batch, length, dim] for `every_position`."""
        positions = tf.cast(self.encode(embedded, present, training), tf.float32)
        return positions if every_position else _last_present(positions, present)

    def encode(self, embedded: tf.Tensor, present: tf.Tensor, training: bool | None) -> tf.Tensor:
        """Returns [batch, length, dim], float32 or of lower precision."""
        raise NotImplementedError


def make_history_encoder(config: HistoryConfig, embedding_dim: int, policy: str = "float32") -> HistoryEncoder:
    """Makes the encoder that a configuration names, with fresh weights.

    Args:
      config: of the history.
      embedding_dim: the width of embeddings.
      policy: the name of a Keras dtype policy, which layers with products of matrices follow: `mixed_bfloat16` computes
        in bfloat16 with float32 weights. What comes out is float32.
    """
    name, encoder = "history_encoder", config.encoder
    match encoder:
        case MeanEncoder():
            return WeightedMean(1.0, name)
        case RecencyEncoder():
            return WeightedMean(0.5 ** (1 / encoder.half_life), name)
        case GruEncoder():
            return Gru(embedding_dim, encoder.dropout, name, policy)
        case SelfAttentionEncoder():
            return SelfAttention(embedding_dim, encoder.blocks, encoder.heads, encoder.dropout, name, policy)
        case _:
            assert_never(encoder)


class WeightedMean(HistoryEncoder):
    """The mean of the items' embeddings, in which an item weighs `decay` times as much as the one after it."""

    def __init__(self, decay: float, name: str) -> None:
        """Takes 0 < `decay` ≤ 1; 1 is the plain mean."""
        super().__init__(name=name)
        self._decay = decay

    def call(
        self, embedded: tf.Tensor, present: tf.Tensor, training: bool | None = None, every_position: bool = False
    ) -> tf.Tensor:
        """As its parent, but the last position alone where no other is asked for."""
        if every_position:
            return self.encode(embedded, present, training)
        position = tf.range(tf.shape(present)[1])
        weight = tf.where(present, self._decay ** tf.cast(_last(present)[:, tf.newaxis] - position, tf.float32), 0.0)
        weight = tf.math.divide_no_nan(weight, tf.reduce_sum(weight, axis=1, keepdims=True))
        return tf.squeeze(tf.matmul(weight[:, tf.newaxis], embedded), axis=1)

    def encode(self, embedded: tf.Tensor, present: tf.Tensor, training: bool | None) -> tf.Tensor:
        """Returns [batch, length, dim] float32."""
        position = tf.range(tf.shape(present)[1])
        age = position[:, tf.newaxis] - position
        weight = tf.where(age >= 0, self._decay ** tf.cast(age, tf.float32), 0.0)
        return tf.matmul(weight / tf.reduce_sum(weight, axis=1, keepdims=True), embedded)


class Gru(HistoryEncoder):
    """The states of a gated recurrent unit (Cho et al., 2014), as wide as an embedding."""

    def __init__(self, embedding_dim: int, dropout: float, name: str, policy: str) -> None:
        """Takes the width, and the fraction of the embeddings' units dropped in training."""
        super().__init__(name=name, dtype=policy)
        self._dropout = tf.keras.layers.Dropout(dropout, dtype=policy)
        self._gru = tf.keras.layers.GRU(embedding_dim, return_sequences=True, dtype=policy)

    def encode(self, embedded: tf.Tensor, present: tf.Tensor, training: bool | None) -> tf.Tensor:
        """Returns [batch, length, dim] float32."""
        return self._gru(self._dropout(embedded, training=training), training=training)


class SelfAttention(HistoryEncoder):
    """Causal self-attention with learned positions (Kang and McAuley, "Self-Attentive Sequential Recommendation").

    Differs from the paper in: every layer's input is normalized, and its output is not (Xiong et al., "On Layer
    Normalization in the Transformer Architecture", 2020), which trains without warm-up.
    """

    def __init__(self, embedding_dim: int, blocks: int, heads: int, dropout: float, name: str, policy: str) -> None:
        """Takes the width, the number of blocks, the heads of each, and the fraction of units dropped in training."""
        super().__init__(name=name, dtype=policy)
        self._scale = embedding_dim**0.5
        self._blocks = [_Block(embedding_dim, heads, dropout, f"block_{number}", policy) for number in range(blocks)]
        self._dropout = tf.keras.layers.Dropout(dropout, dtype=policy)
        self._normalization = tf.keras.layers.LayerNormalization(epsilon=1e-6, dtype=policy)

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes an embedding for each position."""
        self.positions = self.add_weight(
            name="positions",
            shape=input_shape[1:],
            initializer=tf.keras.initializers.RandomNormal(stddev=_POSITION_STDDEV),
        )
        super().build(input_shape)

    def encode(self, embedded: tf.Tensor, present: tf.Tensor, training: bool | None) -> tf.Tensor:
        """Returns [batch, length, dim] float32."""
        hidden = self._dropout(embedded * self._scale + self.positions, training=training)
        for block in self._blocks:
            hidden = block(hidden, training=training)
        return self._normalization(hidden)


class _Block(tf.keras.layers.Layer):
    """Attention to a position and those before it, then two dense layers on each; both are added to their input.

    Padding needs no mask: it stands behind all that is present, where causal attention does not look.
    """

    def __init__(self, embedding_dim: int, heads: int, dropout: float, name: str, policy: str) -> None:
        super().__init__(name=name, dtype=policy)
        self._attention = tf.keras.layers.MultiHeadAttention(
            heads, embedding_dim // heads, dropout=dropout, dtype=policy
        )
        self._inner = tf.keras.layers.Dense(embedding_dim, activation="relu", dtype=policy)
        self._outer = tf.keras.layers.Dense(embedding_dim, dtype=policy)
        self._dropout = tf.keras.layers.Dropout(dropout, dtype=policy)
        self._before_attention = tf.keras.layers.LayerNormalization(epsilon=1e-6, dtype=policy)
        self._before_dense = tf.keras.layers.LayerNormalization(epsilon=1e-6, dtype=policy)

    def call(self, hidden: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns [batch, length, dim] of the same."""
        normalized = self._before_attention(hidden)
        attended = self._attention(normalized, normalized, use_causal_mask=True, training=training)
        hidden += self._dropout(attended, training=training)
        inner = self._dropout(self._inner(self._before_dense(hidden)), training=training)
        return hidden + self._dropout(self._outer(inner), training=training)


def _last(present: tf.Tensor) -> tf.Tensor:
    """[batch] int32: the last present position, -1 where there is none."""
    return tf.reduce_sum(tf.cast(present, tf.int32), axis=1) - 1


def _last_present(positions: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    """[batch, dim]: what stands at the last present position, zeros where there is none."""
    last = _last(present)
    taken = tf.gather(positions, tf.maximum(last, 0), batch_dims=1)
    return tf.where(last[:, tf.newaxis] >= 0, taken, 0.0)
