"""DATASET → batches of train sets: of each user's items some are hidden, to be found by those that are left."""

from collections.abc import Collection

import tensorflow as tf

from recsys.block_shuffle import in_random_order
from recsys.dataset import Dataset
from recsys.input_pipeline import EpochFunction, Feed, Share, distributed_feed, new_epoch_each_time, share_of
from recsys.schema import HISTORY
from recsys.user_windows import num_windows_of_shards
from recsys.window_pipeline import Rows, epoch_of_windows

# So many of a set's hidden items are targets at most: an epoch's batches have one shape, and few sets are larger.
MAX_TARGETS = 64


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

    A user with n train items has ⌈n / length⌉ sets, of which the earliest may be short. Each item of a set is hidden or
    not by a coin of its own. Where more than `MAX_TARGETS` are hidden, so many of them are drawn, and weigh as much as
    all in the mean.

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
      features [batch, MAX_TARGETS, …], and `weight` [batch, MAX_TARGETS] float32: 0 for padding, which is any item.

    Raises:
      DatasetError: there are fewer shards than workers.
      ConfigError: the global batch cannot be divided among the replicas.
    """
    context = tf.distribute.InputContext() if input_context is None else input_context
    share = _share(context, dataset, batch_size, length)
    return new_epoch_each_time(share, seed, _epoch_function(dataset, share, length, hidden, features))


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
    def lay_out(rows: Rows, starts: tf.Tensor, ends: tf.Tensor, seed: tf.Tensor) -> Rows:
        return _divided(rows, starts, ends, length, hidden, seed)

    return epoch_of_windows(dataset, share, length, features, lay_out)


def _divided(rows: Rows, starts: tf.Tensor, ends: tf.Tensor, length: int, hidden: float, seed: tf.Tensor) -> Rows:
    """The columns of sets: `history` as item rows, -1 where there is none."""
    members = tf.ragged.range(starts, ends)
    coins_seed, order_seed = (seed + tf.constant([number, 0], seed.dtype) for number in (1, 2))
    is_hidden = tf.random.stateless_uniform(tf.shape(members.flat_values), coins_seed) < hidden
    shown = tf.ragged.boolean_mask(members, members.with_flat_values(~is_hidden)).to_tensor(-1, shape=[None, length])
    found = _in_random_order(tf.ragged.boolean_mask(members, members.with_flat_values(is_hidden)), order_seed)
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


def _in_random_order(of_sets: tf.RaggedTensor, seed: tf.Tensor) -> tf.RaggedTensor:
    """Shuffles each row, so that what is cut off behind is left out by chance."""
    order = in_random_order(tf.range(tf.size(of_sets.flat_values)), seed)
    by_set = tf.gather(order, tf.argsort(tf.gather(of_sets.value_rowids(), order), stable=True))
    return of_sets.with_flat_values(tf.gather(of_sets.flat_values, by_set))
