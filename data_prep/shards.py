"""Writes interactions as column-block TFRecord shards.

A record holds a block of rows: every feature is one raw little-endian buffer. A block holds whole users, so that
consecutive rows of one user are a whole sequence. A history is a window on the block's `history/values`, where the
items of a user who has several rows stand once.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
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

Int64s = npt.NDArray[np.int64]
Columns = dict[str, npt.NDArray[np.generic]]
_LITTLE_ENDIAN = {"timestamp": "<i8", "label": "<f4", "weight": "<f4"}


def write_shards(folder: Path, split: str, sequences: Sequences, rows: Int64s) -> tuple[Shard, ...]:
    """Writes the interactions at `rows` of `sequences` to `folder/interactions/<split>-SSSSS-of-NNNNN.tfrecord`.

    Returns:
      The shards, named relative to `folder`. No shard is empty; a split without rows has none.
    """
    if not len(rows):
        return ()
    (folder / "interactions").mkdir(exist_ok=True)
    layout = Layout.of(len(rows))
    user = sequences.user_row[rows]
    new_user = np.r_[True, user[1:] != user[:-1]]
    block_of_row = layout.blocks(np.maximum.accumulate(np.where(new_user, np.arange(len(rows)), 0)))
    starts = np.flatnonzero(np.r_[True, block_of_row[1:] != block_of_row[:-1]])
    ends = np.r_[starts[1:], len(rows)]
    shard_of_block = layout.shards(block_of_row[starts])
    used = np.unique(shard_of_block)
    shards = []
    for number, shard in enumerate(used):
        name = shard_name(split, number, len(used))
        members = np.flatnonzero(shard_of_block == shard)
        bounds = np.r_[starts[members], ends[members[-1]]]
        columns = block_columns(sequences, rows[bounds[0] : bounds[-1]])
        _write_blocks(folder / name, columns, bounds - bounds[0])
        shards.append(Shard(name=name, num_rows=int(bounds[-1] - bounds[0]), sha256=sha256_of(folder / name)))
    return tuple(shards)


def _write_blocks(path: Path, columns: Columns, bounds: Int64s) -> None:
    """Writes a block of the rows between each two of the bounds."""
    columns = _as_stored(columns)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for start, stop in pairwise(bounds.tolist()):
            writer.write(encode_block(_cut(columns, start, stop)))


def _cut(columns: Columns, start: int, stop: int) -> Columns:
    """The block of some rows, all those of their users: its history values are a stretch of those of all rows."""
    block = {name: column[start:stop] for name, column in columns.items() if name != "history/values"}
    starts = block["history/starts"]
    first, end = starts[0], starts[-1] + block["history/lengths"][-1]
    return block | {"history/starts": starts - first, "history/values": columns["history/values"][first:end]}


@dataclass(frozen=True)
class Layout:
    """How a split, sorted by user, is divided: into shards of equal rows, and these into blocks, users kept whole.

    Attributes:
      num_rows: of the split.
      num_shards: at most; where one user has the rows of several, some are left out.
      num_blocks: a multiple of `num_shards`.
    """

    num_rows: int
    num_shards: int
    num_blocks: int

    @classmethod
    def of(cls, num_rows: int) -> "Layout":
        """The layout of a split: blocks of at most about `BLOCK_ROWS` rows."""
        num_blocks = math.ceil(num_rows / BLOCK_ROWS)
        num_shards = max(1, min(num_blocks, max(_MIN_SHARDS, math.ceil(num_blocks / _MAX_SHARD_BLOCKS))))
        return cls(num_rows, num_shards, math.ceil(num_blocks / num_shards) * num_shards)

    def blocks(self, first_rows: Int64s) -> Int64s:
        """The blocks of users whose first rows in the split are given."""
        return first_rows * self.num_blocks // self.num_rows

    def shards(self, blocks: Int64s) -> Int64s:
        """The shards of blocks."""
        return blocks * self.num_shards // self.num_blocks


def shard_name(split: str, number: int, num_shards: int) -> str:
    """A shard's file name, relative to the dataset."""
    return f"interactions/{split}-{number:05d}-of-{num_shards:05d}.tfrecord"


def block_columns(sequences: Sequences, rows: Int64s) -> Columns:
    """The columns of one block, or of several that follow each other.

    Returns:
      `user_row`, `item_row` (int32), `timestamp` (int64), `label`, `weight` (float32, where there are some), and
      `history/values`, `history/starts`, `history/lengths` (int32).
    """
    starts, values = _windows(sequences, rows)
    columns: Columns = {
        "user_row": sequences.user_row[rows],
        "item_row": sequences.item_row[rows],
        "timestamp": sequences.timestamp[rows],
        "history/values": values,
        "history/starts": starts,
        "history/lengths": sequences.history_end[rows] - sequences.history_start[rows],
    }
    for name in ("label", "weight"):
        column = getattr(sequences, name)
        if column is not None:
            columns[name] = column[rows]
    return columns


def encode_block(columns: Columns) -> bytes:
    """Serializes the columns of one block as a `tf.train.Example` of raw little-endian buffers."""
    features = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[column.tobytes()]))
        for name, column in _as_stored(columns).items()
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return bytes(example.SerializeToString(deterministic=True))


def _as_stored(columns: Columns) -> Columns:
    return {name: column.astype(_LITTLE_ENDIAN.get(name, "<i4"), copy=False) for name, column in columns.items()}


def _windows(sequences: Sequences, rows: Int64s) -> tuple[Int64s, npt.NDArray[np.int32]]:
    """Joins the windows of each user's rows into one run of values; returns the new starts, and the runs."""
    user, start, end = sequences.user_row[rows], sequences.history_start[rows], sequences.history_end[rows]
    if (start == end).all():
        return np.zeros_like(start), np.empty(0, np.int32)
    first = np.flatnonzero(np.r_[True, user[1:] != user[:-1]])
    last = np.r_[first[1:], len(rows)] - 1
    run_start, run_length = start[first], end[last] - start[first]
    offset = np.cumsum(run_length) - run_length
    run = np.repeat(np.arange(len(first)), last - first + 1)
    positions = np.arange(run_length.sum()) + np.repeat(run_start - offset, run_length)
    return start - run_start[run] + offset[run], sequences.item_row[positions]
