"""Reads the blocks of shards in an order that is new at each epoch, and the same for one seed."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

FILES_AT_ONCE = 16
SHUFFLED_BLOCKS = 256
WINDOW_BLOCKS = 64


def epoch_seed(seed: int, worker: int) -> tf.data.Dataset:
    """Yields once what the order of an epoch follows from, a scalar int64: another one at each iteration."""
    (own,) = np.random.SeedSequence([seed, worker]).generate_state(1)
    return tf.data.Dataset.random(own, rerandomize_each_iteration=True).take(1)


def shuffled_windows(paths: Sequence[str], seed: tf.Tensor) -> tf.data.Dataset:
    """Yields serialized blocks [at most WINDOW_BLOCKS] string, and a seed [2] int64 for the order of their rows.

    Files come in random order, `FILES_AT_ONCE` of them are read in turns, and their blocks are shuffled among
    `SHUFFLED_BLOCKS`. All that is random follows from the epoch's seed by stateless ops: there is no further state to
    resume.

    Args:
      paths: the shards.
      seed: the epoch's, a scalar int64.
    """
    ordered = in_random_order(tf.constant(paths), tf.stack([seed, -1]))
    blocks = tf.data.Dataset.from_tensor_slices(ordered).interleave(
        tf.data.TFRecordDataset, cycle_length=FILES_AT_ONCE, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )

    def windows(pool: tf.Tensor, pool_seed: tf.Tensor) -> tf.data.Dataset:
        order = in_random_order(tf.range(tf.size(pool)), pool_seed)
        starts = tf.data.Dataset.range(0, tf.size(pool, tf.int64), WINDOW_BLOCKS)
        return starts.map(lambda start: tf.gather(pool, order[start : start + WINDOW_BLOCKS]))

    pools = _with_seeds(blocks.batch(SHUFFLED_BLOCKS), seed, first=-2, step=-1)
    return _with_seeds(pools.flat_map(windows), seed, first=0, step=1)


def in_random_order(values: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Shuffles along the first axis, by a seed [2] int64."""
    return tf.random.experimental.stateless_shuffle(values, seed)


def _with_seeds(elements: tf.data.Dataset, seed: tf.Tensor, first: int, step: int) -> tf.data.Dataset:
    """Gives each element a seed [2] int64 of its own: the epoch's, and a number."""
    seeds = tf.data.Dataset.counter(first, step).map(lambda number: tf.stack([seed, number]))
    return tf.data.Dataset.zip(elements, seeds)
