"""How often items stand in a batch: what log-Q correction is made of."""

from typing import Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from recsys.distribution import gather_across_replicas


class Frequencies(Protocol):
    """How often items stand in a global batch."""

    def expected(self, item_row: tf.Tensor, batch_size: tf.Tensor) -> tf.Tensor:
        """Returns how many times each item stands in a batch in the mean.

        Args:
          item_row: [batch] int32.
          batch_size: rows of the global batch, those of weight 0 apart; scalar float32.

        Returns:
          [batch] float32; 0 where it never did.
        """

    def least(self, batch_size: tf.Tensor) -> tf.Tensor:
        """Returns how many times an item is expected that stands in a batch though it never did before.

        Args:
          batch_size: as for `expected`.

        Returns:
          Scalar float32, above 0 and not above `expected` of any item that did.
        """

    def observe(self, item_row: tf.Tensor, weight: tf.Tensor) -> None:
        """Takes this replica's part of a step's batch: [batch] int32 item rows, and [batch] float32 weights."""


class TrainShares(tf.Module):
    """An item is at a batch's position with the probability of its share of an epoch's targets."""

    def __init__(self, train_counts: npt.NDArray[np.int64]) -> None:
        """Takes how often each item is a target in an epoch, [num_items] int64."""
        super().__init__()
        self._shares = tf.constant(train_counts / train_counts.sum(), tf.float32)
        self._least_share = 1 / float(train_counts.sum())

    def expected(self, item_row: tf.Tensor, batch_size: tf.Tensor) -> tf.Tensor:
        """Returns how many times each item stands in a batch in the mean, [batch] float32; 0 where it never does."""
        return batch_size * tf.gather(self._shares, item_row)

    def least(self, batch_size: tf.Tensor) -> tf.Tensor:
        """Returns what is expected of an item that train holds once, scalar float32."""
        return batch_size * self._least_share

    def observe(self, item_row: tf.Tensor, weight: tf.Tensor) -> None:
        """Learns nothing from batches."""


class StreamingFrequencies(tf.Module):
    """An estimate from the steps between occurrences of an item, for interactions that come as a stream.

    An item that stands c times in the batch of step t, and stood in one last at step s, updates its mean gap

        gap ← (1 - a) gap + a (t - s) / c,  a = max(1 - (1 - rate)ᶜ, c / n)

    where n counts its occurrences so far. This is algorithm 2 of Yi et al., "Sampling-bias-corrected neural modeling
    for large corpus item recommendations", RecSys 2019, taken c times where an item stands there c times, each time
    with its part of the steps since s. Until an item came 1 / rate times, its gap is the plain mean: no start has to be
    guessed, or forgotten. The item is expected 1 / gap times in a batch.

    A step is one of the global batch, however many replicas share it: they exchange their items, and all copies of the
    estimate are written alike. Only rows of a batch's items are read or written. An item takes 12 bytes.
    """

    def __init__(self, num_items: int, rate: float) -> None:
        """Takes the size of the catalogue, and how much of the mean a new gap replaces."""
        super().__init__()
        self._rate = rate
        # Behind the last item comes one that stands for rows of weight 0.
        self._nobody = num_items
        self._step = _replicated(tf.zeros([], tf.int32), "step")
        self._last_step = _replicated(tf.zeros([num_items + 1], tf.int32), "last_step")
        self._occurrences = _replicated(tf.zeros([num_items + 1]), "occurrences")
        self._gap = _replicated(tf.zeros([num_items + 1]), "gap")

    def expected(self, item_row: tf.Tensor, batch_size: tf.Tensor) -> tf.Tensor:
        """Returns how many times each item stands in a batch in the mean, [batch] float32; 0 where it never did."""
        return tf.math.reciprocal_no_nan(tf.gather(self._gap, item_row))

    def least(self, batch_size: tf.Tensor) -> tf.Tensor:
        """Returns what is expected of an item that first comes in the next step, after a gap of all; scalar float32."""
        return 1 / tf.cast(self._step + 1, tf.float32)

    def observe(self, item_row: tf.Tensor, weight: tf.Tensor) -> None:
        """Updates the gaps of this step's items, which several replicas tell each other; rows of weight 0 are none."""
        items = tf.sort(gather_across_replicas(tf.where(weight > 0, item_row, self._nobody)))
        ends, starts = (tf.searchsorted(items, items, side=side) for side in ("right", "left"))
        number = tf.cast(ends - starts, tf.float32)
        self._step.assign_add(1)
        gap = tf.cast(self._step - tf.gather(self._last_step, items), tf.float32) / number
        occurrences = tf.gather(self._occurrences, items) + number
        share = tf.maximum(1 - tf.pow(1 - self._rate, number), number / occurrences)
        old = tf.gather(self._gap, items)
        # An item that stands there several times is written as often, with one value.
        for variable, value in (
            (self._gap, old + share * (gap - old)),
            (self._occurrences, occurrences),
            (self._last_step, tf.fill(tf.shape(items), self._step)),
        ):
            variable.scatter_update(tf.IndexedSlices(value, items))


def _replicated(start: tf.Tensor, name: str) -> tf.Variable:
    """A variable that all replicas write, with one value."""
    return tf.Variable(start, trainable=False, name=name, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
