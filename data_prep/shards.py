"""Writes interactions as column-block TFRecord shards.

A record holds a block of rows: every feature is one raw little-endian buffer. A history is a window on the block's
`history/values`, where the items of a user who has several rows stand once.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from data_prep.sequences import Sequences
from recsys.artifacts import sha256_of
from recsys.schema import Shard

BLOCK_ROWS = 1024
_MIN_SHARDS = 8
_MAX_SHARD_BLOCKS = 256


def write_shards(folder: Path, split: str, sequences: Sequences, rows: npt.NDArray[np.int64]) -> tuple[Shard, ...]:
    """Writes the interactions at `rows` of `sequences` to `folder/interactions/<split>-SSSSS-of-NNNNN.tfrecord`.

    Returns:
      The shards, named relative to `folder`. No shard is empty.
    """
    (folder / "interactions").mkdir(exist_ok=True)
    blocks = np.split(rows, range(BLOCK_ROWS, len(rows), BLOCK_ROWS))
    num_shards = min(len(blocks), max(_MIN_SHARDS, math.ceil(len(blocks) / _MAX_SHARD_BLOCKS)))
    shards = []
    for number, members in enumerate(np.array_split(np.arange(len(blocks)), num_shards)):
        name = f"interactions/{split}-{number:05d}-of-{num_shards:05d}.tfrecord"
        with tf.io.TFRecordWriter(str(folder / name)) as writer:
            for member in members:
                writer.write(encode_block(sequences, blocks[member]))
        num_rows = sum(len(blocks[member]) for member in members)
        shards.append(Shard(name=name, num_rows=num_rows, sha256=sha256_of(folder / name)))
    return tuple(shards)


def encode_block(sequences: Sequences, rows: npt.NDArray[np.int64]) -> bytes:
    """Serializes one block as a `tf.train.Example` of raw little-endian buffers.

    Its features are `user_row`, `item_row` (int32), `timestamp` (int64), and `history/values`, `history/starts`,
    `history/lengths` (int32).
    """
    starts, values = _windows(sequences, rows)
    buffers = {
        "user_row": sequences.user_row[rows].astype("<i4"),
        "item_row": sequences.item_row[rows].astype("<i4"),
        "timestamp": sequences.timestamp[rows].astype("<i8"),
        "history/values": values.astype("<i4"),
        "history/starts": starts.astype("<i4"),
        "history/lengths": (sequences.history_end[rows] - sequences.history_start[rows]).astype("<i4"),
    }
    features = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[buffer.tobytes()]))
        for name, buffer in buffers.items()
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return bytes(example.SerializeToString(deterministic=True))


def _windows(sequences: Sequences, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Joins the windows of each user's rows in a block into one run of values; returns the new starts, and the runs."""
    user, start, end = sequences.user_row[rows], sequences.history_start[rows], sequences.history_end[rows]
    first = np.flatnonzero(np.r_[True, user[1:] != user[:-1]])
    last = np.r_[first[1:], len(rows)] - 1
    run_starts, run_ends = start[first], end[last]
    offsets = np.cumsum(run_ends - run_starts) - (run_ends - run_starts)
    run = np.repeat(np.arange(len(first)), last - first + 1)
    return start - run_starts[run] + offsets[run], np.concatenate(list(_slices(sequences, run_starts, run_ends)))


def _slices(
    sequences: Sequences, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> Iterator[npt.NDArray[np.int32]]:
    for start, end in zip(starts, ends, strict=True):
        yield sequences.item_row[start:end]
