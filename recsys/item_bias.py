"""What lets items have a score of their own, whoever asks."""

import tensorflow as tf

# An optimizer moves all units by steps of one size, and a logit is a score over a temperature of about a tenth: a bias
# that moved as far as other units would follow whatever a single batch holds.
_SCALE = 0.1


class BiasedUnits(tf.keras.layers.Layer):
    """A tower's output, whose last unit is the item's bias: queries have 1 there, so that a dot product adds it.

    A query of which nothing is known is zeros but for that 1, and ranks items by their biases.
    """

    def __init__(self, of_queries: bool, normalize: bool, name: str) -> None:
        """Takes whether the tower embeds queries, and whether all units but the last are scaled to length 1."""
        super().__init__(name=name)
        self._of_queries = of_queries
        self._normalize = normalize

    def call(self, units: tf.Tensor) -> tf.Tensor:
        """Returns [..., embedding_dim] float32 for units of that shape."""
        direction, last = units[..., :-1], units[..., -1:]
        if self._normalize:
            direction = tf.math.l2_normalize(direction, axis=-1)
        return tf.concat([direction, tf.ones_like(last) if self._of_queries else _SCALE * last], axis=-1)
