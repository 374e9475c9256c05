"""The dataset's user and item tables as tensors: row numbers in, features out."""

from collections.abc import Collection, Mapping

import numpy as np
import tensorflow as tf

from recsys.dataset import Dataset
from recsys.schema import HISTORY, ITEM_ID


class FeatureTables:
    """Joins features to interactions by row; features are stored once per user or item, not once per interaction."""

    def __init__(self, dataset: Dataset, features: Collection[str] | None = None) -> None:
        """Loads both tables into host memory, 4 bytes per id; only the `features` when they are given."""

        def wanted(name: str) -> bool:
            return features is None or name in features

        with tf.device("CPU"):
            self._users = {name: tf.constant(ids) for name, ids in dataset.user_features.items() if wanted(name)}
            self._items = {name: tf.constant(ids) for name, ids in dataset.item_features.items() if wanted(name)}
            # Row -1 finds the padding id in front.
            self._history_ids = tf.constant(np.concatenate([[0], dataset.item_features[ITEM_ID]]), tf.int32)

    def query(self, user_row: tf.Tensor, history: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the query tower's features.

        Args:
          user_row: [batch] int32.
          history: [batch, history_length] int32 item rows, -1 where there is none.
        """
        return {**self.user(user_row), HISTORY: self.item_ids(history)}

    def user(self, user_row: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the query tower's features but for the history, for [batch] int32 user rows."""
        return _gather(self._users, user_row)

    def item_ids(self, item_row: tf.Tensor) -> tf.Tensor:
        """Returns the int32 item ids of int32 item rows of any shape; the padding id for -1, "no item"."""
        return tf.gather(self._history_ids, item_row + 1)

    def candidate(self, item_row: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the candidate tower's features for [batch] int32 item rows."""
        return _gather(self._items, item_row)


def _gather(table: Mapping[str, tf.Tensor], rows: tf.Tensor) -> dict[str, tf.Tensor]:
    return {name: tf.gather(values, rows) for name, values in table.items()}
