"""Decodes the column blocks that `data_prep.shards` writes."""

from collections.abc import Collection, Sequence
from pathlib import Path

import tensorflow as tf

_DTYPES = {
    "user_row": tf.int32,
    "item_row": tf.int32,
    "timestamp": tf.int64,
    "label": tf.float32,
    "weight": tf.float32,
    "history/start": tf.int32,
    "history/length": tf.int32,
}
WINDOW = ("history/start", "history/length")
_ALWAYS_THERE = ("user_row", "item_row", "timestamp")
_WINDOW_COLUMNS = ("values", "starts", "lengths")
# `tf.gather` copies slices of ten elements at once, and most others in a loop.
_RUN = 10


def read_blocks(paths: Sequence[Path]) -> tf.data.Dataset:
    """Returns a dataset of serialized blocks, scalar strings, in the order of the files."""
    return tf.data.TFRecordDataset(tf.constant([str(path) for path in paths], tf.string))


def decode_rows(blocks: tf.Tensor, columns: Collection[str] = _ALWAYS_THERE) -> dict[str, tf.Tensor]:
    """Decodes single-valued columns of several blocks at once.

    Args:
      blocks: [num_blocks] string.
      columns: which ones; `label` and `weight` are there where the schema says so.

    Returns:
      `user_row`, `item_row` [num_rows] int32, `timestamp` [num_rows] int64, `label`, `weight` [num_rows] float32.
    """
    return _joined(_parse(blocks, list(columns)), {name: _DTYPES[name] for name in columns})


def decode_windows(blocks: tf.Tensor, columns: Collection[str]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """As `decode_rows`, with each row's history as a window on the items of all blocks.

    Returns:
      The columns, with `history/start` and `history/length` [num_rows] int32; and the values that the windows look on,
      [num_values] int32 item rows.
    """
    names = [f"history/{part}" for part in _WINDOW_COLUMNS]
    parsed = _parse(blocks, ["user_row", *(name for name in columns if name != "user_row"), *names])
    rows = _joined(parsed, {name: _DTYPES[name] for name in columns})
    window = _joined(parsed, dict.fromkeys(names, tf.int32))

    values_per_block = tf.strings.length(parsed["history/values"]) // tf.int32.size
    rows_per_block = tf.strings.length(parsed["user_row"]) // tf.int32.size
    offsets = tf.repeat(tf.cumsum(values_per_block, exclusive=True), rows_per_block)
    rows["history/start"] = window["history/starts"] + offsets
    rows["history/length"] = window["history/lengths"]
    return rows, window["history/values"]


def runs(values: tf.Tensor, history_length: int) -> tf.Tensor:
    """Lays out values so that `take_history` copies runs of them, not single ones.

    Args:
      values: [num_values] int32.
      history_length: the longest window.

    Returns:
      [_RUN * stride, _RUN] int32 for some stride: what starts at values[n] is the row (n % _RUN) * stride + n // _RUN,
      and the rows after it. Behind the values are zeros, so that a window may begin at the last of them.
    """
    stride = tf.size(values) // _RUN + _num_runs(history_length)
    padded = tf.pad(values, [[0, (stride + 1) * _RUN - tf.size(values)]])
    shifted = [tf.reshape(padded[shift : shift + stride * _RUN], [stride, _RUN]) for shift in range(_RUN)]
    return tf.concat(shifted, axis=0)


def take_history(rows: dict[str, tf.Tensor], values: tf.Tensor, history_length: int) -> dict[str, tf.Tensor]:
    """Replaces the windows of `decode_windows` by `history`: [num_rows, history_length], oldest first, then 0.

    Of longer windows the latest part is taken.
    Apart from decoding, because what it makes is many times larger than what it is made from.

    Args:
      rows: with the windows.
      values: what they look on, as `runs` lays it out.
      history_length: how many are taken, the same as for `runs`.
    """
    others = {name: column for name, column in rows.items() if name not in WINDOW}
    start, length = rows["history/start"], rows["history/length"]
    start += tf.maximum(length - history_length, 0)
    num_runs = _num_runs(history_length)
    first = start % _RUN * (tf.shape(values)[0] // _RUN) + start // _RUN
    taken = tf.gather(values, first[:, tf.newaxis] + tf.range(num_runs))
    taken = tf.reshape(taken, [tf.size(start), num_runs * _RUN])[:, :history_length]
    # A product: `tf.where` is slower where it broadcasts.
    present = tf.cast(tf.range(history_length) < length[:, tf.newaxis], tf.int32)
    return {**others, "history": taken * present}


def _num_runs(history_length: int) -> int:
    return -(-history_length // _RUN)


def packed(rows: dict[str, tf.Tensor], names: Sequence[str]) -> tf.Tensor:
    """[num_rows, len(names)] int32: the bits of columns of 32 bits, so that a row is gathered from one place."""
    return tf.stack([tf.bitcast(rows[name], tf.int32) for name in names], axis=1)


def unpacked(columns: tf.Tensor, names: Sequence[str]) -> dict[str, tf.Tensor]:
    """The columns of `packed`."""
    named = zip(names, tf.unstack(columns, axis=1), strict=True)
    return {name: tf.bitcast(column, _DTYPES[name]) for name, column in named}


def _parse(blocks: tf.Tensor, names: list[str]) -> dict[str, tf.Tensor]:
    return tf.io.parse_example(blocks, {name: tf.io.FixedLenFeature([], tf.string) for name in names})


def _joined(parsed: dict[str, tf.Tensor], dtypes: dict[str, tf.DType]) -> dict[str, tf.Tensor]:
    return {name: tf.io.decode_raw(tf.strings.reduce_join(parsed[name]), dtype) for name, dtype in dtypes.items()}
