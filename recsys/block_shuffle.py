"""Reads the blocks of shards in an order that is new at each epoch, and the same for one seed."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

FILES_AT_ONCE = 16
# A million rows of 8 to 16 bytes. A user's rows stand in one block: in a small window they would share their batches.
WINDOW_BLOCKS = 1024


def epoch_seed(seed: int, worker: int) -> tf.data.Dataset:
    """Yields once what the order of an epoch follows from, a scalar int64: another one at each iteration."""
    return tf.data.Dataset.random(_own_seed(seed, worker), rerandomize_each_iteration=True).take(1)


def epoch_seeds(seed: int, worker: int, first_epoch: int) -> tf.data.Dataset:
    """Yields what the orders of epochs follow from, a scalar int64 each, without end, from `first_epoch` on."""
    return tf.data.Dataset.random(_own_seed(seed, worker)).skip(first_epoch)


def _own_seed(seed: int, worker: int) -> int:
    (own,) = np.random.SeedSequence([seed, worker]).generate_state(1)
    return int(own)


def shuffled_windows(paths: Sequence[str], seed: tf.Tensor) -> tf.data.Dataset:
    """Yields serialized blocks [at most WINDOW_BLOCKS] string, and a seed [2] int64 for the order of their rows.

    Files come in random order, and `FILES_AT_ONCE` of them are read in turns. All that is random follows from the
    epoch's seed by stateless ops: there is no further state to resume.

    Args:
      paths: the shards.
      seed: the epoch's, a scalar int64.
    """
    ordered = in_random_order(tf.constant(paths), tf.stack([seed, -1]))
    blocks = tf.data.Dataset.from_tensor_slices(ordered).interleave(
        tf.data.TFRecordDataset, cycle_length=FILES_AT_ONCE, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    seeds = tf.data.Dataset.counter().map(lambda number: tf.stack([seed, number]))
    return tf.data.Dataset.zip(blocks.batch(WINDOW_BLOCKS), seeds)


def in_random_order(values: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Shuffles along the first axis, by a seed [2] int64."""
    return tf.random.experimental.stateless_shuffle(values, seed)
