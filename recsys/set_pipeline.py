"""DATASET → batches of train sets: of each user's items some are hidden, to be found by those that are left."""

from collections.abc import Collection

import tensorflow as tf

from recsys.block_shuffle import epoch_seed, in_random_order, shuffled_windows
from recsys.blocks import decode_rows
from recsys.dataset import Dataset
from recsys.feature_tables import FeatureTables
from recsys.input_pipeline import EpochFunction, Feed, Share, distributed_feed, filled_batches, share_of
from recsys.schema import HISTORY
from recsys.user_windows import num_windows_of_shards, windows_of_users

# So many of a set's hidden items are targets at most.
MAX_TARGETS = 64

_Rows = dict[str, tf.Tensor]


def training_sets(
    dataset: Dataset,
    batch_size: int,
    length: int,
    hidden: float,
    seed: int,
    input_context: tf.distribute.InputContext | None = None,
    features: Collection[str] | None = None,
) -> tf.data.Dataset:
    """Yields every user's train items once, newly shuffled and hidden at each iteration, in batches of static shape.

    A user with n train items has ⌈n / length⌉ sets: the latest is full. Each item of a set is hidden or not by a coin
    of its own. Where more than `MAX_TARGETS` are hidden, so many of them are drawn, and weigh as much as all.

    Args:
      dataset: what to read.
      batch_size: sets per batch; with `input_context`, of the global batch.
      length: items of a set.
      hidden: the probability of being hidden.
      seed: of the shuffling and hiding.
      input_context: as for `recsys.input_pipeline.training_batches`.
      features: the features to look up; all by default.

    Returns:
      Batches of `user_row` [batch] int32; the users' features; `history` [batch, length] int32 item ids that are not
      hidden, oldest first, then 0; and of those that are, in any order, `item_row` [batch, MAX_TARGETS] int32, their
      features, and `weight` [batch, MAX_TARGETS] float32: 0 for padding.

    Raises:
      DatasetError: there are fewer shards than workers.
      ConfigError: the global batch cannot be divided among the replicas.
    """
    context = tf.distribute.InputContext() if input_context is None else input_context
    share = _share(context, dataset, batch_size, length)
    epoch = _epoch_function(dataset, share, length, hidden, features)
    batches = epoch_seed(seed, share.worker).flat_map(lambda own: epoch(own).prefetch(tf.data.AUTOTUNE))
    return batches.apply(tf.data.experimental.assert_cardinality(share.num_batches))


def set_feed(
    strategy: tf.distribute.Strategy,
    dataset: Dataset,
    batch_size: int,
    length: int,
    hidden: float,
    seed: int,
    features: Collection[str] | None = None,
    first_epoch: int = 0,
) -> Feed:
    """Distributes `training_sets`, as `recsys.input_pipeline.training_feed` does `training_batches`.

    Raises:
      DatasetError, ConfigError: as `training_sets`.
    """
    return distributed_feed(
        strategy,
        seed,
        first_epoch,
        lambda context: _share(context, dataset, batch_size, length),
        lambda share: _epoch_function(dataset, share, length, hidden, features),
    )


def _share(context: tf.distribute.InputContext, dataset: Dataset, batch_size: int, length: int) -> Share:
    return share_of(context, dataset, batch_size, num_windows_of_shards(dataset, length))


def _epoch_function(
    dataset: Dataset, share: Share, length: int, hidden: float, features: Collection[str] | None
) -> EpochFunction:
    tables = FeatureTables(dataset, features)
    columns = ("user_row", "item_row", *(["weight"] if dataset.schema.weight else []))

    def sets(blocks: tf.Tensor, window_seed: tf.Tensor) -> _Rows:
        rows = decode_rows(blocks, columns)
        starts, ends = windows_of_users(rows["user_row"], length)
        order = in_random_order(tf.range(tf.size(ends)), window_seed)
        starts, ends = tf.gather(starts, order), tf.gather(ends, order)
        taken = _divided(rows, starts, ends, length, hidden, window_seed)
        return {**taken, HISTORY: tables.item_ids(taken[HISTORY])}

    def with_features(rows: _Rows) -> _Rows:
        return {**rows, **tables.user(rows["user_row"]), **tables.candidate(rows["item_row"])}

    def epoch(own: tf.Tensor) -> tf.data.Dataset:
        windows = shuffled_windows(share.paths, own).map(sets, num_parallel_calls=tf.data.AUTOTUNE)
        batches = filled_batches(windows, share.num_filler, share.batch_size)
        return batches.map(with_features, num_parallel_calls=tf.data.AUTOTUNE)

    return epoch


def _divided(rows: _Rows, starts: tf.Tensor, ends: tf.Tensor, length: int, hidden: float, seed: tf.Tensor) -> _Rows:
    """The columns of sets: `history` as item rows, -1 where there is none."""
    members = tf.ragged.range(starts, ends)
    coins_seed, order_seed = (seed + tf.constant([number, 0], seed.dtype) for number in (1, 2))
    is_hidden = tf.random.stateless_uniform(tf.shape(members.flat_values), coins_seed) < hidden
    shown = tf.ragged.boolean_mask(members, members.with_flat_values(~is_hidden)).to_tensor(-1, shape=[None, length])

    # In random order, so that those behind MAX_TARGETS are left out by chance; then, stably, by set.
    order = tf.boolean_mask(
        *(in_random_order(column, order_seed) for column in (tf.range(tf.size(is_hidden)), is_hidden))
    )
    set_of = tf.gather(members.value_rowids(), order)
    by_set = tf.argsort(set_of, stable=True)
    found = tf.RaggedTensor.from_value_rowids(
        tf.gather(members.flat_values, tf.gather(order, by_set)), tf.gather(set_of, by_set), tf.size(starts, tf.int64)
    )
    targets = found.to_tensor(-1, shape=[None, MAX_TARGETS])
    num_hidden = tf.cast(found.row_lengths(), tf.float32)
    weight = tf.where(targets >= 0, tf.maximum(num_hidden / MAX_TARGETS, 1.0)[:, tf.newaxis], 0.0)
    targets = tf.maximum(targets, 0)
    return {
        "user_row": tf.gather(rows["user_row"], starts),
        HISTORY: tf.where(shown >= 0, tf.gather(rows["item_row"], tf.maximum(shown, 0)), -1),
        "item_row": tf.gather(rows["item_row"], targets),
        "weight": weight * tf.gather(rows["weight"], targets) if "weight" in rows else weight,
    }
