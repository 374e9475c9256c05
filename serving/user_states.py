"""What a bundle knows of each user: which items they took, oldest first."""

import numpy as np
import tensorflow as tf

from recsys.interactions import Interactions


class UserStates(tf.Module):
    """Every user's items, one int32 each, found by user row."""

    def __init__(self, interactions: Interactions) -> None:
        """Takes all interactions of the dataset, those of validation and test too: they have happened."""
        super().__init__()
        self._items = tf.Variable(interactions.item_row, trainable=False)
        self._starts = tf.Variable(interactions.user_start.astype(np.int64), trainable=False)

    def items(self, user_row: tf.Tensor) -> tf.RaggedTensor:
        """Returns each user's items, [batch, (items)] int32 item rows; none for row -1.

        Args:
          user_row: [batch] int64.
        """
        known = tf.maximum(user_row, 0)
        start = tf.gather(self._starts, known)
        stop = tf.where(user_row < 0, start, tf.gather(self._starts, known + 1))
        positions = tf.ragged.range(start, stop)
        return tf.gather(self._items, positions)


class NoUserStates(tf.Module):
    """Stands in for `UserStates` where a bundle is to know nothing."""

    def items(self, user_row: tf.Tensor) -> tf.RaggedTensor:
        """Returns no items, [batch, (0)] int32, for [batch] int64 user rows."""
        return tf.RaggedTensor.from_row_lengths(tf.zeros([0], tf.int32), tf.zeros_like(user_row))
