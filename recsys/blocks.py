"""Decodes the column blocks that `data_prep.shards` writes."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

_ROW_COLUMNS = {"user_row": tf.int32, "item_row": tf.int32, "timestamp": tf.int64}
_WINDOW_COLUMNS = ("values", "starts", "lengths")


def read_blocks(paths: Sequence[Path]) -> tf.data.Dataset:
    """Returns a dataset of serialized blocks, scalar strings, in the order of the files."""
    return tf.data.TFRecordDataset([str(path) for path in paths])


def decode_rows(blocks: tf.Tensor) -> dict[str, tf.Tensor]:
    """Decodes the single-valued columns of several blocks at once.

    Args:
      blocks: [num_blocks] string.

    Returns:
      `user_row`, `item_row` [num_rows] int32 and `timestamp` [num_rows] int64.
    """
    return _joined(_parse(blocks, list(_ROW_COLUMNS)), _ROW_COLUMNS)


def decode_rows_and_history(blocks: tf.Tensor, history_length: int) -> dict[str, tf.Tensor]:
    """As `decode_rows`, and `history`: [num_rows, history_length] int32 item rows, oldest first, then -1."""
    names = [f"history/{part}" for part in _WINDOW_COLUMNS]
    parsed = _parse(blocks, [*_ROW_COLUMNS, *names])
    columns = _joined(parsed, _ROW_COLUMNS)
    window = _joined(parsed, dict.fromkeys(names, tf.int32))

    values_per_block = tf.strings.length(parsed["history/values"]) // tf.int32.size
    rows_per_block = tf.strings.length(parsed["user_row"]) // tf.int32.size
    offsets = tf.repeat(tf.cumsum(values_per_block, exclusive=True), rows_per_block)
    steps = tf.range(history_length)
    positions = (window["history/starts"] + offsets)[:, tf.newaxis] + steps
    present = steps < window["history/lengths"][:, tf.newaxis]
    # A leading -1 stands for "no item", also where a block has no history at all.
    values = tf.concat([[-1], window["history/values"]], axis=0)
    columns["history"] = tf.gather(values, tf.where(present, positions + 1, 0))
    return columns


def _parse(blocks: tf.Tensor, names: list[str]) -> dict[str, tf.Tensor]:
    return tf.io.parse_example(blocks, {name: tf.io.FixedLenFeature([], tf.string) for name in names})


def _joined(parsed: dict[str, tf.Tensor], dtypes: dict[str, tf.DType]) -> dict[str, tf.Tensor]:
    return {name: tf.io.decode_raw(tf.strings.reduce_join(parsed[name]), dtype) for name, dtype in dtypes.items()}
