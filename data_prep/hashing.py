"""The one hash of strings, the same here and in an exported graph."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf


def bucket(values: Sequence[str], num_buckets: int) -> npt.NDArray[np.int64]:
    """Hashes strings into buckets with TensorFlow's FarmHash Fingerprint64, which exported graphs use too.

    Returns:
      [len(values)] int64 in 0 … num_buckets - 1.
    """
    if not len(values):
        return np.empty(0, dtype=np.int64)
    with tf.device("CPU"):
        return np.asarray(tf.strings.to_hash_bucket_fast(np.asarray(values, dtype=object), num_buckets))


def order(values: Sequence[str], seed: int) -> npt.NDArray[np.int64]:
    """Returns [len(values)] int64 positions that put distinct values into an order unrelated to their meaning."""
    keys = bucket([f"{seed}:{value}" for value in values], np.iinfo(np.int64).max)
    return np.lexsort((np.asarray(values, dtype=object), keys))
