"""DATASET → batches of features for training."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import tensorflow as tf

from recsys.block_shuffle import epoch_seed, epoch_seeds, in_random_order, shuffled_windows
from recsys.blocks import WINDOW, decode_rows, decode_windows, packed, runs, take_history, unpacked
from recsys.dataset import Dataset
from recsys.errors import ConfigError, DatasetError
from recsys.feature_tables import FeatureTables
from recsys.schema import HISTORY

_PIECE_ROWS = 16_384

_Rows = dict[str, tf.Tensor]
# From an epoch's seed to its batches.
EpochFunction = Callable[[tf.Tensor], tf.data.Dataset]


def training_batches(
    dataset: Dataset,
    batch_size: int,
    seed: int,
    input_context: tf.distribute.InputContext | None = None,
    features: Collection[str] | None = None,
    history_length: int | None = None,
) -> tf.data.Dataset:
    """Yields the train split once, newly shuffled at each iteration, in batches of static shape.

    Files come in random order and are read several at once, as `recsys.block_shuffle` has it, and rows are permuted
    within a window of 1,024 blocks, about a million rows. One seed, with one global seed of TensorFlow, gives one
    order. What fills up the last batch has weight 0.

    An iterator's state can be saved by `tf.train.Checkpoint(iterator=…)`; restored, it goes on with the next batch.

    Args:
      dataset: what to read.
      batch_size: rows per batch; with `input_context`, of the global batch.
      seed: of the shuffling.
      input_context: which input worker this is. It then reads every n-th file and yields batches for one replica
        each. All workers yield equally many, whatever rows they have: collectives would wait for a missing one.
      features: the features to look up; all by default. Without `history` no history is decoded, without `label` no
        label.
      history_length: so many of the latest items are a history; all that the dataset has by default.

    Returns:
      Batches of the query and candidate features, [batch] or [batch, max_length] int32, or float32 where dense, and of
      `user_row`, `item_row` [batch] int32 and `weight`, and where the dataset has some `label`, [batch] float32.

    Raises:
      DatasetError: there are fewer shards than workers.
      ConfigError: the global batch cannot be divided among the replicas.
    """
    context = tf.distribute.InputContext() if input_context is None else input_context
    share = _share(context, dataset, batch_size)
    return new_epoch_each_time(share, seed, _epoch_function(dataset, share, features, history_length))


def new_epoch_each_time(share: "Share", seed: int, epoch: EpochFunction) -> tf.data.Dataset:
    """Yields an epoch's batches, newly shuffled at each iteration, for one input worker."""
    # Prefetching ends with the epoch: one that ran ahead to the end would leave no seed to save for the next epoch.
    batches = epoch_seed(seed, share.worker).flat_map(lambda own: epoch(own).prefetch(tf.data.AUTOTUNE))
    return ending_at_once(batches.apply(tf.data.experimental.assert_cardinality(share.num_batches)))


@dataclass(frozen=True)
class Feed:
    """What `model.fit` takes: batches without end, and how many of them are an epoch.

    Attributes:
      batches: distributed over the strategy's replicas, epoch after epoch.
      steps_per_epoch: global batches per epoch.
    """

    batches: tf.data.Dataset | tf.distribute.DistributedDataset
    steps_per_epoch: int


def training_feed(
    strategy: tf.distribute.Strategy,
    dataset: Dataset,
    batch_size: int,
    seed: int,
    features: Collection[str] | None = None,
    history_length: int | None = None,
    first_epoch: int = 0,
) -> Feed:
    """Distributes `training_batches` over a strategy's replicas, without end.

    The order of an epoch follows from the seed and its number: from `first_epoch` on, the batches are those that come
    there in a feed from the start.

    Raises:
      DatasetError, ConfigError: as `training_batches`.
    """
    return distributed_feed(
        strategy,
        seed,
        first_epoch,
        lambda context: _share(context, dataset, batch_size),
        lambda share: _epoch_function(dataset, share, features, history_length),
    )


def distributed_feed(
    strategy: tf.distribute.Strategy,
    seed: int,
    first_epoch: int,
    share_of_worker: Callable[[tf.distribute.InputContext], "Share"],
    epoch_of_share: Callable[["Share"], EpochFunction],
) -> Feed:
    """Distributes epochs of batches over a strategy's replicas, without end, so that no epoch starts with a wait.

    The strategy moves each replica's next batch to its device while the one before is learned from. Replicas of one
    worker get consecutive batches of one pipeline: together the rows that a single replica would get in one batch.
    """
    steps = []

    def per_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        share = share_of_worker(context)
        steps.append(share.num_steps)
        seeds = epoch_seeds(seed, share.worker, first_epoch)
        return ending_at_once(seeds.flat_map(epoch_of_share(share)).prefetch(tf.data.AUTOTUNE))

    return Feed(strategy.distribute_datasets_from_function(per_worker), steps[0])


def ending_at_once(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Turns off the model of tf.data's autotuning, for which an iterator waits when it ends.

    The model looks again after 10 ms, then 20, and so on up to a minute, and often sleeps through the iterator's end: a
    `fit` of 3 seconds returned after 5.1 (TensorFlow 2.20). Without it AUTOTUNE means as many calls as there are cores.
    The iterators that TensorFlow adds for several replicas have models of their own, which no option reaches.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)


@dataclass(frozen=True)
class Share:
    """What one input worker reads and yields in an epoch, of rows, whole sequences or sets.

    Attributes:
      worker: its number.
      paths: its files.
      batch_size: rows per replica.
      num_batches: what it yields.
      num_filler: rows of weight 0 that fill them up.
      num_steps: global batches, the same for all workers.
    """

    worker: int
    paths: list[str]
    batch_size: int
    num_batches: int
    num_filler: int
    num_steps: int


def _share(context: tf.distribute.InputContext, dataset: Dataset, batch_size: int) -> Share:
    return share_of(context, dataset, batch_size, [shard.num_rows for shard in dataset.manifest.splits["train"]])


def share_of(
    context: tf.distribute.InputContext, dataset: Dataset, batch_size: int, rows_of_shards: Sequence[int]
) -> Share:
    """Divides the train shards among input workers, and what is in them into equally many batches for each.

    Args:
      context: which worker this is.
      dataset: whose shards.
      batch_size: of the global batch.
      rows_of_shards: what each shard holds.

    Raises:
      DatasetError: there are fewer shards than workers.
      ConfigError: the global batch cannot be divided among the replicas.
    """
    paths = dataset.shard_paths("train")
    workers, worker = context.num_input_pipelines, context.input_pipeline_id
    replicas = context.num_replicas_in_sync
    if len(paths) < workers:
        raise DatasetError(
            f"{dataset.path} has {len(paths)} train shards for {workers} input workers: "
            f"expected a shard or more for each; train with at most {len(paths)} workers"
        )
    if batch_size % replicas:
        raise ConfigError(
            f"batch_size = {batch_size}: expected a multiple of the {replicas} replicas that share a batch; "
            f"choose {batch_size - batch_size % replicas or replicas}"
        )
    per_replica, local_replicas = batch_size // replicas, replicas // workers
    rows = [sum(rows_of_shards[number::workers]) for number in range(workers)]
    num_steps = -(-max(rows) // (per_replica * local_replicas))
    num_batches = num_steps * local_replicas
    return Share(
        worker=worker,
        paths=[str(path) for path in paths[worker::workers]],
        batch_size=per_replica,
        num_batches=num_batches,
        num_filler=num_batches * per_replica - rows[worker],
        num_steps=num_steps,
    )


def _epoch_function(
    dataset: Dataset,
    share: Share,
    features: Collection[str] | None,
    history_length: int | None,
) -> EpochFunction:
    tables = FeatureTables(dataset, features)
    schema = dataset.schema
    if features is not None and HISTORY not in features:
        history_length = 0
    elif history_length is None:
        history_length = schema.history_length
    columns = ["user_row", "item_row", *(["weight"] if schema.weight else [])]
    if schema.label and (features is None or "label" in features):
        columns.append("label")

    stored = [*columns, *(WINDOW if history_length else ())]

    def decoded(blocks: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if not history_length:
            return packed(decode_rows(blocks, columns), stored), tf.zeros([0, 0], tf.int32)
        rows, values = decode_windows(blocks, columns)
        return packed(rows, stored), runs(tables.item_ids(values), history_length)

    def gathered(table: tf.Tensor, values: tf.Tensor, members: tf.Tensor) -> _Rows:
        rows = {"weight": tf.ones_like(members, tf.float32), **unpacked(tf.gather(table, members), stored)}
        return take_history(rows, values, history_length) if history_length else rows

    def with_features(rows: _Rows) -> _Rows:
        return {**rows, **tables.user(rows["user_row"]), **tables.candidate(rows["item_row"])}

    def epoch(seed: tf.Tensor) -> tf.data.Dataset:
        rows = _permuted_rows(shuffled_windows(share.paths, seed), decoded, gathered)
        return filled_batches(rows, share.num_filler, share.batch_size).map(
            with_features, num_parallel_calls=tf.data.AUTOTUNE
        )

    return epoch


def _permuted_rows(
    windows: tf.data.Dataset,
    decoded: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    gathered: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], _Rows],
) -> tf.data.Dataset:
    """Permutes the rows of each window, and gathers them with their histories.

    In pieces, in parallel: what is gathered is so large for a whole window that allocating it takes longer than
    gathering.

    Args:
      windows: of serialized blocks, each with a seed.
      decoded: from blocks to [num_rows, …] rows, and the values of their histories.
      gathered: from these and [piece] positions of rows to the columns that are yielded.
    """

    def with_order(blocks: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        rows, values = decoded(blocks)
        return rows, values, in_random_order(tf.range(tf.shape(rows)[0]), seed)

    def in_pieces(rows: tf.Tensor, values: tf.Tensor, order: tf.Tensor) -> tf.data.Dataset:
        starts = tf.data.Dataset.range(0, tf.size(order, tf.int64), _PIECE_ROWS)
        return starts.map(lambda start: (rows, values, order[start : start + _PIECE_ROWS]))

    return (
        windows.map(with_order, num_parallel_calls=tf.data.AUTOTUNE)
        .flat_map(in_pieces)
        .map(gathered, num_parallel_calls=tf.data.AUTOTUNE)
    )


def filled_batches(rows: tf.data.Dataset, num_filler: int, batch_size: int) -> tf.data.Dataset:
    """Divides pieces of rows into batches of static shape.

    Args:
      rows: pieces of any number of rows, with `weight`, float32.
      num_filler: rows of zeros to append, so that the last batch is whole.
      batch_size: rows per batch.

    Returns:
      Batches of the same columns; the weight of what fills up is 0.
    """

    def zeros(size: int) -> tf.data.Dataset:
        spec = rows.element_spec.items()
        return tf.data.Dataset.from_tensors(
            {name: tf.zeros([size, *column.shape[1:]], column.dtype) for name, column in spec}
        )

    batches, rest = divmod(num_filler, batch_size)
    filler = zeros(batch_size).repeat(batches).concatenate(zeros(rest))
    return rows.concatenate(filler).rebatch(batch_size, drop_remainder=True)
