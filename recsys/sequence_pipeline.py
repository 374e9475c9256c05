"""DATASET → batches of whole train sequences, for models that learn from all positions at once."""

from collections.abc import Collection

import tensorflow as tf

from recsys.block_shuffle import epoch_seed, in_random_order, shuffled_windows
from recsys.blocks import decode_rows
from recsys.dataset import Dataset
from recsys.errors import ConfigError
from recsys.feature_tables import FeatureTables
from recsys.input_pipeline import EpochFunction, Feed, Share, distributed_feed, filled_batches, share_of
from recsys.schema import HISTORY
from recsys.user_windows import num_windows_of_shards, windows_of_users

_Rows = dict[str, tf.Tensor]


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
    epoch = _epoch_function(dataset, share, length, features)
    batches = epoch_seed(seed, share.worker).flat_map(lambda own: epoch(own).prefetch(tf.data.AUTOTUNE))
    return batches.apply(tf.data.experimental.assert_cardinality(share.num_batches))


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
    tables = FeatureTables(dataset, features)
    columns = ("user_row", "item_row", *(["weight"] if dataset.schema.weight else []))

    def sequences(blocks: tf.Tensor, window_seed: tf.Tensor) -> _Rows:
        rows = decode_rows(blocks, columns)
        starts, ends = windows_of_users(rows["user_row"], length, without_last=True)
        order = in_random_order(tf.range(tf.size(ends)), window_seed)
        taken = _taken(rows, tf.gather(starts, order), tf.gather(ends, order), length)
        return {**taken, HISTORY: tables.item_ids(taken[HISTORY])}

    def with_features(rows: _Rows) -> _Rows:
        return {**rows, **tables.user(rows["user_row"]), **tables.candidate(rows["item_row"])}

    def epoch(own: tf.Tensor) -> tf.data.Dataset:
        windows = shuffled_windows(share.paths, own).map(sequences, num_parallel_calls=tf.data.AUTOTUNE)
        batches = filled_batches(windows, share.num_filler, share.batch_size)
        return batches.map(with_features, num_parallel_calls=tf.data.AUTOTUNE)

    return epoch


def _taken(rows: _Rows, starts: tf.Tensor, ends: tf.Tensor, length: int) -> _Rows:
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
