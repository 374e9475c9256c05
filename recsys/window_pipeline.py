"""DATASET → batches made of windows on users' train rows: whole sequences, or sets."""

from collections.abc import Callable, Collection

import tensorflow as tf

from recsys.block_shuffle import in_random_order, shuffled_windows
from recsys.blocks import decode_rows
from recsys.dataset import Dataset
from recsys.feature_tables import FeatureTables
from recsys.input_pipeline import EpochFunction, Share, filled_batches
from recsys.schema import HISTORY
from recsys.user_windows import windows_of_users

Rows = dict[str, tf.Tensor]
# From decoded rows, the first rows of windows, the rows behind their last, and a seed [2] int64 to the columns of
# batches, with `history` as item rows, -1 where there is none.
LayOut = Callable[[Rows, tf.Tensor, tf.Tensor, tf.Tensor], Rows]


def epoch_of_windows(
    dataset: Dataset,
    share: Share,
    length: int,
    features: Collection[str] | None,
    lay_out: LayOut,
    without_last: bool = False,
) -> EpochFunction:
    """Returns a function from an epoch's seed to its batches.

    Args:
      dataset: what to read.
      share: of an input worker.
      length: of a window.
      features: the features to look up; all when None.
      lay_out: makes the columns of windows.
      without_last: as `windows_of_users` has it.
    """
    tables = FeatureTables(dataset, features)
    columns = ("user_row", "item_row", *(["weight"] if dataset.schema.weight else []))

    def laid_out(blocks: tf.Tensor, seed: tf.Tensor) -> Rows:
        rows = decode_rows(blocks, columns)
        starts, ends = windows_of_users(rows["user_row"], length, without_last)
        order = in_random_order(tf.range(tf.size(ends)), seed)
        taken = lay_out(rows, tf.gather(starts, order), tf.gather(ends, order), seed)
        return {**taken, HISTORY: tables.item_ids(taken[HISTORY])}

    def with_features(rows: Rows) -> Rows:
        return {**rows, **tables.user(rows["user_row"]), **tables.candidate(rows["item_row"])}

    def epoch(seed: tf.Tensor) -> tf.data.Dataset:
        windows = shuffled_windows(share.paths, seed).map(laid_out, num_parallel_calls=tf.data.AUTOTUNE)
        batches = filled_batches(windows, share.num_filler, share.batch_size)
        return batches.map(with_features, num_parallel_calls=tf.data.AUTOTUNE)

    return epoch
