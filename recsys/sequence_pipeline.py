"""DATASET → batches of whole train sequences, for models that learn from all positions at once."""

import tensorflow as tf

from recsys.block_shuffle import epoch_seed, in_random_order, shuffled_windows
from recsys.blocks import decode_rows
from recsys.dataset import Dataset
from recsys.feature_tables import FeatureTables
from recsys.input_pipeline import filled_batches
from recsys.schema import ITEM_ID


def training_sequences(dataset: Dataset, batch_size: int, length: int, seed: int) -> tf.data.Dataset:
    """Yields the train items of every user once, newly shuffled at each iteration, in batches of static shape.

    A block of a shard holds whole users, so a sequence is read from their rows and stored nowhere else.

    Args:
      dataset: what to read.
      batch_size: users per batch.
      length: how many of a user's latest train items are kept.
      seed: of the shuffling.

    Returns:
      Batches of `user_row` [batch] int32, `items` [batch, length] int32 item ids, oldest first, then 0, and `weight`
      [batch] float32: 0 for what fills up the last batch.
    """
    tables = FeatureTables(dataset, (ITEM_ID,))
    paths = [str(path) for path in dataset.shard_paths("train")]
    num_users = int((dataset.users["train_count"].to_numpy() > 0).sum())

    def sequences(blocks: tf.Tensor, window_seed: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = decode_rows(blocks, ("user_row", "item_row"))
        ends = _last_rows(rows["user_row"]) + 1
        starts = tf.maximum(tf.concat([[0], ends[:-1]], axis=0), ends - length)
        order = in_random_order(tf.range(tf.size(ends)), window_seed)
        positions = tf.gather(starts, order)[:, tf.newaxis] + tf.range(length)
        present = positions < tf.gather(ends, order)[:, tf.newaxis]
        items = tf.gather(rows["item_row"], tf.where(present, positions, 0))
        return {
            "user_row": tf.gather(rows["user_row"], tf.gather(ends, order) - 1),
            "items": tables.item_ids(tf.where(present, items, -1)),
        }

    def epoch(own: tf.Tensor) -> tf.data.Dataset:
        windows = shuffled_windows(paths, own).map(sequences, num_parallel_calls=tf.data.AUTOTUNE)
        return filled_batches(windows, -num_users % batch_size, batch_size).prefetch(tf.data.AUTOTUNE)

    batches = epoch_seed(seed, worker=0).flat_map(epoch)
    return batches.apply(tf.data.experimental.assert_cardinality(-(-num_users // batch_size)))


def _last_rows(user_row: tf.Tensor) -> tf.Tensor:
    """The last row of each user, [num_users] int32; rows of one user are neighbours."""
    is_last = tf.concat([user_row[1:] != user_row[:-1], [True]], axis=0)
    return tf.cast(tf.where(is_last)[:, 0], tf.int32)
