"""All interactions of a dataset in memory, by user, split and time: what evaluation and serving state are made from."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.blocks import decode_rows, read_blocks
from recsys.config import Examples
from recsys.dataset import Dataset
from recsys.errors import ConfigError
from recsys.schema import SPLITS

_BLOCKS_PER_READ = 64


@dataclass(frozen=True)
class Interactions:
    """Interactions of all splits, sorted by user, split, time and item row; 17 bytes each.

    Attributes:
      user_row, item_row: [num_rows] int32.
      timestamp: [num_rows] int64.
      split: [num_rows] int8 positions in `SPLITS`.
      user_start: [num_users + 1] int64; user `u` has the rows `user_start[u]` … `user_start[u + 1] - 1`.
      num_items: candidates in the catalogue.
    """

    user_row: npt.NDArray[np.int32]
    item_row: npt.NDArray[np.int32]
    timestamp: npt.NDArray[np.int64]
    split: npt.NDArray[np.int8]
    user_start: npt.NDArray[np.int64]
    num_items: int

    @property
    def moment_start(self) -> npt.NDArray[np.int64]:
        """[num_rows] int64: the first row of the same user and split with the same timestamp."""
        positions = np.arange(len(self.user_row))
        new_moment = np.ones(len(positions), dtype=bool)
        new_moment[1:] = False
        for column in (self.user_row, self.split, self.timestamp):
            new_moment[1:] |= column[1:] != column[:-1]
        return np.maximum.accumulate(np.where(new_moment, positions, 0))


def target_counts(interactions: Interactions, examples: Examples) -> npt.NDArray[np.int64]:
    """Counts how often each item is asked for in an epoch, [num_items] int64.

    Args:
      interactions: of the dataset.
      examples: what an epoch is made of; the first item of a sequence is shown, and never asked for.

    Raises:
      ConfigError: nothing is asked for.
    """
    is_target = interactions.split == SPLITS.index("train")
    if examples == "sequences":
        is_target[interactions.user_start[:-1][np.diff(interactions.user_start) > 0]] = False
    if not is_target.any():
        raise ConfigError("no user has two train interactions: expected some for train.examples = 'sequences'")
    return np.bincount(interactions.item_row[is_target], minlength=interactions.num_items)


def load_interactions(dataset: Dataset) -> Interactions:
    """Reads every split's shards."""
    columns: dict[str, list[npt.NDArray[np.int64]]] = {"user_row": [], "item_row": [], "timestamp": [], "split": []}
    for number, split in enumerate(SPLITS):
        blocks = read_blocks(dataset.shard_paths(split)).batch(_BLOCKS_PER_READ).map(decode_rows)
        for rows in blocks.as_numpy_iterator():
            for name, values in rows.items():
                columns[name].append(values)
            columns["split"].append(np.full(len(rows["user_row"]), number))
    user, item, time, split_of = (np.concatenate(columns[name]) for name in columns)
    order = np.lexsort((item, time, split_of, user))
    user = user[order]
    num_users, num_items = dataset.users.num_rows, dataset.items.num_rows
    return Interactions(
        user_row=user.astype(np.int32),
        item_row=item[order].astype(np.int32),
        timestamp=time[order].astype(np.int64),
        split=split_of[order].astype(np.int8),
        user_start=np.searchsorted(user, np.arange(num_users + 1)),
        num_items=num_items,
    )
