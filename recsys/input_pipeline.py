"""DATASET → batches of features for training."""

import tensorflow as tf

from recsys.blocks import decode_rows_and_history
from recsys.dataset import Dataset
from recsys.feature_tables import FeatureTables

WINDOW_BLOCKS = 64


def training_batches(dataset: Dataset, batch_size: int, seed: int) -> tf.data.Dataset:
    """Yields the train split once, newly shuffled at each iteration, in batches of static shape.

    Files and blocks come in random order; rows are then permuted within a window of `WINDOW_BLOCKS` blocks, about
    65 thousand rows. The order is the same for one seed. The last batch is filled up with rows of weight 0.

    Args:
      dataset: what to read.
      batch_size: rows per batch.
      seed: of the shuffling.

    Returns:
      Batches of the query and candidate features, and of `user_row`, `item_row` [batch_size] int32 and `weight`
      [batch_size] float32.
    """
    tables = FeatureTables(dataset)
    schema = dataset.schema
    paths = [str(path) for path in dataset.shard_paths("train")]
    files = tf.data.Dataset.from_tensor_slices(paths).shuffle(len(paths), seed=seed)
    blocks = files.interleave(tf.data.TFRecordDataset, cycle_length=min(4, len(paths)))
    windows = blocks.shuffle(WINDOW_BLOCKS, seed=seed + 1).batch(WINDOW_BLOCKS)
    seeds = tf.data.Dataset.random(seed=seed + 2, rerandomize_each_iteration=True).batch(2)

    def permuted(window: tf.Tensor, shuffle_seed: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = decode_rows_and_history(window, schema.history_length)
        order = tf.random.experimental.stateless_shuffle(tf.range(tf.shape(rows["user_row"])[0]), shuffle_seed)
        return {name: tf.gather(rows[name], order) for name in ("user_row", "item_row", "history")}

    def with_features(rows: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        rows = _filled_up(rows, batch_size)
        query = tables.query(rows["user_row"], rows.pop("history"))
        return {**rows, **query, **tables.candidate(rows["item_row"])}

    return (
        tf.data.Dataset.zip(windows, seeds)
        .map(permuted)
        .rebatch(batch_size)
        .map(with_features, num_parallel_calls=tf.data.AUTOTUNE)
        .apply(tf.data.experimental.assert_cardinality(-(-dataset.manifest.num_rows("train") // batch_size)))
        .prefetch(tf.data.AUTOTUNE)
    )


def _filled_up(rows: dict[str, tf.Tensor], batch_size: int) -> dict[str, tf.Tensor]:
    """Repeats row 0 with weight 0 until the batch is full, and sets the static shape."""
    size = tf.shape(rows["user_row"])[0]
    member = tf.range(batch_size)
    source = tf.where(member < size, member, 0)
    filled = {name: tf.gather(column, source) for name, column in rows.items()}
    filled["weight"] = tf.cast(member < size, tf.float32)
    return filled
