"""What users took in train, and where it stands among the candidates of a step."""

import numpy as np
import tensorflow as tf

from recsys.interactions import Interactions
from recsys.schema import SPLITS


class KnownPositives:
    """Each user's train items, 4 bytes each, and 8 bytes per user, in host memory.

    Looking up costs what the users of a batch took, whatever the numbers of users and items.
    """

    def __init__(self, interactions: Interactions) -> None:
        """Takes the train rows out of all interactions."""
        in_train = interactions.split == SPLITS.index("train")
        user_row = interactions.user_row[in_train]
        self._num_users = len(interactions.user_start) - 1
        with tf.device("CPU"):
            self._items = tf.constant(interactions.item_row[in_train])
            # Behind the last user comes one who took nothing.
            self._start = tf.constant(np.searchsorted(user_row, np.arange(self._num_users + 2)))

    def of(self, user_row: tf.Tensor, weight: tf.Tensor) -> tf.RaggedTensor:
        """Returns the train items of each row's user, nothing for rows of weight 0.

        Args:
          user_row: [batch] int32.
          weight: [batch] float32.

        Returns:
          [batch, (num_taken)] int32 item rows.
        """
        with tf.device("CPU"):
            user = tf.where(weight > 0, user_row, self._num_users)
            positions = tf.ragged.range(tf.gather(self._start, user), tf.gather(self._start, user + 1))
            return positions.with_flat_values(tf.gather(self._items, positions.flat_values))


def columns_of(items: tf.RaggedTensor, candidate_ids: tf.Tensor) -> tf.RaggedTensor:
    """Finds where each row's items stand among the candidates, by a binary search for each.

    Args:
      items: [batch, (num_items)] int32.
      candidate_ids: [num_candidates] int32, in which an item may stand several times.

    Returns:
      [batch, (num_columns)] int32 positions in `candidate_ids`.
    """
    order = tf.argsort(candidate_ids)
    ordered = tf.gather(candidate_ids, order)
    end_of_equals = tf.searchsorted(ordered, ordered, side="right")
    values = items.flat_values
    start = tf.searchsorted(ordered, values)
    nearest = tf.minimum(start, tf.size(ordered) - 1)
    end = tf.where(tf.gather(ordered, nearest) == values, tf.gather(end_of_equals, nearest), start)
    found = tf.ragged.range(start, end, row_splits_dtype=tf.int64)
    columns = tf.gather(order, found.flat_values)
    return tf.RaggedTensor.from_row_splits(columns, tf.gather(found.row_splits, items.row_splits), validate=False)
