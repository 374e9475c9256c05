"""The one hash of strings, the same here and in an exported graph, and what is derived from it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]


def bucket(values: Sequence[str] | npt.NDArray[np.object_], num_buckets: int) -> Int64s:
    """Hashes strings into buckets with TensorFlow's FarmHash Fingerprint64, which exported graphs use too.

    Returns:
      [len(values)] int64 in 0 … num_buckets - 1.
    """
    if not len(values):
        return np.empty(0, dtype=np.int64)
    import tensorflow as tf  # takes seconds, and most of Beam's workers hash nothing

    with tf.device("CPU"):
        return np.asarray(tf.strings.to_hash_bucket_fast(np.asarray(values, dtype=object), num_buckets))


def fingerprints(values: pa.StringArray, seed: int) -> Int64s:
    """[len(values)] int64 that depend on a seed and a value alone, and not visibly on its meaning."""
    seeded = pc.binary_join_element_wise(str(seed), values, ":")
    return bucket(seeded.to_numpy(zero_copy_only=False), np.iinfo(np.int64).max)


def order(values: pa.StringArray, seed: int) -> Int64s:
    """Returns [len(values)] int64 positions that put distinct values into an order unrelated to their meaning."""
    keyed = pa.table({"key": fingerprints(values, seed), "value": values})
    return np.asarray(pc.sort_indices(keyed, [("key", "ascending"), ("value", "ascending")])).astype(np.int64)


def shares(users: Int64s, items: Int64s, timestamps: Int64s) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1), as good as random, that depend on a row's user, item and time alone.

    The finalizer of SplitMix64 (Steele, Lea & Flood, "Fast splittable pseudorandom number generators", 2014), applied
    to the three in turn.

    Args:
      users: [num_rows] int64 fingerprints.
      items: [num_rows] int64 fingerprints.
      timestamps: [num_rows] int64.

    Returns:
      [num_rows] float64.
    """
    mixed = _mix(users.view(np.uint64))
    mixed = _mix(mixed ^ items.view(np.uint64))
    mixed = _mix(mixed ^ timestamps.view(np.uint64))
    return (mixed >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def _mix(value: UInt64s) -> UInt64s:
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
