"""DATASET → batches of whole train sequences, for models that learn from all positions at once."""

from collections.abc import Collection

import tensorflow as tf

from recsys.dataset import Dataset
from recsys.errors import ConfigError
from recsys.input_pipeline import EpochFunction, Feed, Share, distributed_feed, new_epoch_each_time, share_of
from recsys.schema import HISTORY
from recsys.user_windows import num_windows_of_shards
from recsys.window_pipeline import Rows, epoch_of_windows


def training_sequences(
    dataset: Dataset,
    batch_size: int,
    length: int,
    seed: int,
    input_context: tf.distribute.InputContext | None = None,
    features: Collection[str] | None = None,
) -> tf.data.Dataset:
    """Yields every user's train items once, newly shuffled at each iteration, in batches of static shape.

    A sequence is a window of a user's train items, and at each of its positions the next item is to be found. A user
    with n train items has ⌈(n - 1) / length⌉ windows: the latest is full, and all of the n - 1 later items are the
    target of one position. A block of a shard holds whole users, so a sequence is read from their rows and stored
    nowhere else.

    Args:
      dataset: what to read.
      batch_size: sequences per batch; with `input_context`, of the global batch.
      length: positions of a sequence.
      seed: of the shuffling.
      input_context: as for `recsys.input_pipeline.training_batches`.
      features: the features to look up; all by default.

    Returns:
      Batches of `user_row` [batch] int32; the users' features; `history` [batch, length] int32 item ids, oldest first,
      then 0; and of each position's next item `item_row` [batch, length] int32, its features, and `weight`
      [batch, length] float32: 0 for padding.

    Raises:
      DatasetError: there are fewer shards than workers.
      ConfigError: the global batch cannot be divided among the replicas, or no user has two train items.
    """
    context = tf.distribute.InputContext() if input_context is None else input_context
    share = _share(context, dataset, batch_size, length)
    return new_epoch_each_time(share, seed, _epoch_function(dataset, share, length, features))


def sequence_feed(
    strategy: tf.distribute.Strategy,
    dataset: Dataset,
    batch_size: int,
    length: int,
    seed: int,
    features: Collection[str] | None = None,
    first_epoch: int = 0,
) -> Feed:
    """Distributes `training_sequences`, as `recsys.input_pipeline.training_feed` does `training_batches`.

    Raises:
      DatasetError, ConfigError: as `training_sequences`.
    """
    return distributed_feed(
        strategy,
        seed,
        first_epoch,
        lambda context: _share(context, dataset, batch_size, length),
        lambda share: _epoch_function(dataset, share, length, features),
    )


def _share(context: tf.distribute.InputContext, dataset: Dataset, batch_size: int, length: int) -> Share:
    num_sequences = num_windows_of_shards(dataset, length, without_last=True)
    if not sum(num_sequences):
        raise ConfigError("no user has two train interactions: expected some for train.examples = 'sequences'")
    return share_of(context, dataset, batch_size, num_sequences)


def _epoch_function(dataset: Dataset, share: Share, length: int, features: Collection[str] | None) -> EpochFunction:
    def lay_out(rows: Rows, starts: tf.Tensor, ends: tf.Tensor, _: tf.Tensor) -> Rows:
        return _taken(rows, starts, ends, length)

    return epoch_of_windows(dataset, share, length, features, lay_out, without_last=True)


def _taken(rows: Rows, starts: tf.Tensor, ends: tf.Tensor, length: int) -> Rows:
    """The columns of sequences: `history` as item rows, -1 where there is none."""
    positions = starts[:, tf.newaxis] + tf.range(length)
    present = positions < ends[:, tf.newaxis]
    positions = tf.where(present, positions, 0)
    targets = tf.where(present, positions + 1, 0)
    weight = tf.cast(present, tf.float32)
    return {
        "user_row": tf.gather(rows["user_row"], starts),
        HISTORY: tf.where(present, tf.gather(rows["item_row"], positions), -1),
        "item_row": tf.gather(rows["item_row"], targets),
        "weight": weight * tf.gather(rows["weight"], targets) if "weight" in rows else weight,
    }
