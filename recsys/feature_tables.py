"""The dataset's user and item tables as tensors: row numbers in, features out."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from recsys.dataset import Dataset
from recsys.schema import HISTORY, ITEM_ID


class FeatureTables:
    """Joins features to interactions by row; features are stored once per user or item, not once per interaction."""

    def __init__(self, dataset: Dataset) -> None:
        """Loads both tables into host memory, 4 bytes per id."""
        with tf.device("CPU"):
            self._users = {name: tf.constant(values) for name, values in dataset.user_features.items()}
            self._items = {name: tf.constant(values) for name, values in dataset.item_features.items()}
            # Row -1, "no item" in a history, finds the padding id in front.
            self._history_ids = tf.constant(np.concatenate([[0], dataset.item_features[ITEM_ID]]), tf.int32)

    def query(self, user_row: tf.Tensor, history: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the query tower's features.

        Args:
          user_row: [batch] int32.
          history: [batch, history_length] int32 item rows, -1 where there is none.
        """
        features = _gather(self._users, user_row)
        features[HISTORY] = tf.gather(self._history_ids, history + 1)
        return features

    def candidate(self, item_row: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the candidate tower's features for [batch] int32 item rows."""
        return _gather(self._items, item_row)


def _gather(table: Mapping[str, tf.Tensor], rows: tf.Tensor) -> dict[str, tf.Tensor]:
    return {name: tf.gather(values, rows) for name, values in table.items()}
