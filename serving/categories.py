"""Which items are of which category: what a request may ask to choose within."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from recsys.dataset import Dataset
from serving.exclusion import rows_mask


class Categories(tf.Module):
    """The values of all categorical item features, named `feature=value`, each with its items.

    Values that were too rare for a place in a vocabulary cannot be asked for.
    """

    def __init__(self, dataset: Dataset) -> None:
        """Inverts the item features."""
        super().__init__()
        rows_of = dict(each_category(dataset))
        # What nobody knows is one more category, without a name and without items.
        names, sizes = tf.constant([*rows_of, ""]), [*map(len, rows_of.values()), 0]
        numbers = tf.lookup.KeyValueTensorInitializer(names, tf.range(len(sizes), dtype=tf.int64))
        self._num_items = dataset.items.num_rows
        self._numbers = tf.lookup.StaticHashTable(numbers, default_value=len(rows_of))
        self._starts = tf.Variable(np.concatenate([[0], np.cumsum(sizes)]), trainable=False, dtype=tf.int64)
        self._rows = tf.Variable(np.concatenate([*rows_of.values(), np.zeros(0, np.int32)]), trainable=False)

    def items(self, names: tf.Tensor) -> tf.Tensor:
        """Marks the items that are of any of the named categories.

        Args:
          names: [batch, any] string, `feature=value`; padding is the empty string, and nothing is of what nobody
            knows. A row without any names allows everything.

        Returns:
          [batch, num_items] bool.
        """
        asked = tf.ragged.boolean_mask(names, names != "")
        number = self._numbers.lookup(asked.flat_values)
        places = tf.ragged.range(tf.gather(self._starts, number), tf.gather(self._starts, number + 1))
        rows = places.with_flat_values(tf.gather(self._rows, places.flat_values))
        per_query = asked.with_flat_values(rows).merge_dims(1, 2)
        return rows_mask(per_query, self._num_items) | (asked.row_lengths() == 0)[:, tf.newaxis]


def each_category(dataset: Dataset) -> Iterator[tuple[str, np.ndarray]]:
    """Each known value of each categorical feature, and its item rows in ascending order, int32."""
    for feature in dataset.schema.item_features:
        if feature.type not in ("categorical", "multi_categorical"):
            continue
        ids = dataset.item_features[feature.name].reshape(dataset.items.num_rows, -1)
        rows, columns = np.nonzero(ids >= feature.first_known_id)
        of_pair = ids[rows, columns]
        order = np.argsort(of_pair, kind="stable")
        bounds = np.searchsorted(of_pair[order], np.arange(feature.first_known_id, feature.num_ids + 1))
        for number, value in enumerate(dataset.vocabulary(feature.name)):
            of_value = np.unique(rows[order][bounds[number] : bounds[number + 1]])
            yield f"{feature.name}={value}", of_value.astype(np.int32)
