"""What most people take of late: the answer to somebody of whom nothing is known."""

import numpy as np
import tensorflow as tf

from recsys.interactions import Interactions
from serving.exclusion import best_allowed

_RECENT_FRACTION = 0.2


class RecentPopularity(tf.Module):
    """Candidates by how often they were taken in the newest fifth of all interactions; ties by all of them, by row.

    Where interactions have no times, all of them count.
    """

    def __init__(self, interactions: Interactions) -> None:
        """Counts the interactions of all splits: they have happened."""
        super().__init__()
        moments = interactions.timestamp
        recent = moments >= np.quantile(moments, 1 - _RECENT_FRACTION, method="lower")
        size = interactions.num_items
        counts = np.bincount(interactions.item_row[recent], minlength=size)
        order = np.lexsort((-np.bincount(interactions.item_row, minlength=size), -counts))
        self._rows = tf.Variable(order.astype(np.int32), trainable=False)
        self._shares = tf.Variable((counts[order] / counts.sum()).astype(np.float32), trainable=False)

    def best(
        self, excluded: tf.RaggedTensor, k: tf.Tensor, within: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the first candidates that are allowed.

        Args:
          excluded: [batch, (excluded)] int32 rows; -1 is ignored.
          k: scalar int32, 1 … `num_candidates`.
          within: [batch, num_candidates] bool, what a row asks for; everything when None.

        Returns:
          Rows [batch, k] int32 and shares of the counted interactions [batch, k] float32, best first; -1 and the
          smallest float32 where none is left.
        """
        batch, widest = tf.shape(excluded)[0], tf.cast(excluded.bounding_shape(1), tf.int32)
        size = tf.shape(self._rows)[0]
        wanted = tf.minimum(k + widest, size) if within is None else size
        rows, shares = (tf.repeat(values[tf.newaxis, :wanted], batch, axis=0) for values in (self._rows, self._shares))
        return best_allowed(rows, shares, excluded, k, within)
