"""Evaluation queries: who asks, what they had seen, and which candidates are relevant.

Two protocols. `event`: one query per held-out interaction, with the history up to that moment; its item is relevant.
`user`: one query per user at the cut; all of the user's later items in the split are relevant. In both, an item that
the user had already taken is neither recommended nor relevant. Earlier splits count as the past: where a split is
drawn by chance, a user has taken all train items before the first validation item.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from recsys.interactions import Interactions
from recsys.schema import SPLITS

Protocol = Literal["event", "user"]

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Queries:
    """Queries against the whole catalogue.

    Attributes:
      user_row: [num_queries] int32.
      seen_start, seen_end: [num_queries] int64; `items[start:end]` are the items that the user had taken, oldest
        first.
      relevant_query, relevant_item: [num_relevant] int64 and int32; pairs of a query's number and a relevant item.
      items: [num_interactions] int32 item rows of all interactions, by user and time.
      num_items: candidates in the catalogue.
      num_repeats: interactions left out because their item had been taken before.
    """

    user_row: Int32s
    seen_start: Int64s
    seen_end: Int64s
    relevant_query: Int64s
    relevant_item: Int32s
    items: Int32s
    num_items: int
    num_repeats: int

    def __len__(self) -> int:
        return len(self.user_row)

    @property
    def num_relevant(self) -> Int64s:
        """[num_queries] int64: relevant candidates of each query."""
        return np.bincount(self.relevant_query, minlength=len(self))

    def history(self, start: int, stop: int, length: int) -> Int32s:
        """The latest items of queries `start` … `stop - 1`: [stop - start, length] int32, oldest first, then -1."""
        ends = self.seen_end[start:stop, None]
        firsts = np.maximum(self.seen_start[start:stop, None], ends - length)
        positions = firsts + np.arange(length)
        present = positions < ends
        return np.where(present, self.items[np.where(present, positions, 0)], -1).astype(np.int32)

    def seen_pairs(self, start: int, stop: int) -> Int64s:
        """[num_pairs, 2] int64: (query number minus `start`, seen item row) of queries `start` … `stop - 1`."""
        counts = self.seen_end[start:stop] - self.seen_start[start:stop]
        query = np.repeat(np.arange(stop - start), counts)
        first_pair = np.cumsum(counts) - counts
        position = np.arange(len(query)) - first_pair[query] + self.seen_start[start:stop][query]
        return np.stack([query, self.items[position].astype(np.int64)], axis=1)

    def sample(self, size: int, seed: int) -> "Queries":
        """A random sample without replacement, in the same order; all queries when there are no more than `size`."""
        if len(self) <= size:
            return self
        chosen = np.sort(np.random.default_rng(seed).choice(len(self), size, replace=False))
        return self.subset(np.isin(np.arange(len(self)), chosen))

    def distinct(self) -> tuple["Queries", Int64s]:
        """Leaves out queries that ask just what the one before them asks, as those of one user and moment do.

        Returns:
          The queries that are left, and the number among them of what each of these queries asks, [num_queries] int64.
        """
        asked = np.stack([self.user_row, self.seen_start, self.seen_end])
        is_new = np.ones(len(self), dtype=bool)
        is_new[1:] = (asked[:, 1:] != asked[:, :-1]).any(axis=0)
        return self.subset(is_new), np.cumsum(is_new) - 1

    def latest_of_users(self) -> "Queries":
        """Each user's last query, of users who had taken something by then: they are independent of each other."""
        is_last = np.ones(len(self), dtype=bool)
        is_last[:-1] = self.user_row[1:] != self.user_row[:-1]
        return self.subset(is_last & (self.seen_end > self.seen_start))

    def subset(self, chosen: npt.NDArray[np.bool_]) -> "Queries":
        """The queries where the [num_queries] mask is true."""
        number = np.cumsum(chosen) - 1
        kept = chosen[self.relevant_query]
        return Queries(
            user_row=self.user_row[chosen],
            seen_start=self.seen_start[chosen],
            seen_end=self.seen_end[chosen],
            relevant_query=number[self.relevant_query[kept]],
            relevant_item=self.relevant_item[kept],
            items=self.items,
            num_items=self.num_items,
            num_repeats=self.num_repeats,
        )


def make_queries(interactions: Interactions, split: str, protocol: Protocol) -> Queries:
    """Makes the queries of a split by the named protocol."""
    first_of_pair = _first_of_pair(interactions)
    held_out = np.flatnonzero(interactions.split == SPLITS.index(split))
    fresh = held_out[first_of_pair[held_out]]
    user = interactions.user_row[fresh]
    if protocol == "event":
        query_user, query = user, np.arange(len(fresh))
        seen_end = interactions.moment_start[fresh]
    else:
        query_user, query = np.unique(user, return_inverse=True)
        earliest = np.searchsorted(interactions.user_row[held_out], query_user)
        seen_end = held_out[earliest]
    return Queries(
        user_row=query_user.astype(np.int32),
        seen_start=interactions.user_start[query_user],
        seen_end=seen_end,
        relevant_query=query.astype(np.int64),
        relevant_item=interactions.item_row[fresh],
        items=interactions.item_row,
        num_items=interactions.num_items,
        num_repeats=len(held_out) - len(fresh),
    )


def make_train_queries(interactions: Interactions) -> Queries:
    """Makes a query for each user with train interactions, who has taken all of these; nothing is relevant."""
    in_train = interactions.user_row[interactions.split == SPLITS.index("train")]
    user, num_taken = np.unique(in_train, return_counts=True)
    start = interactions.user_start[user]
    return Queries(
        user_row=user.astype(np.int32),
        seen_start=start,
        seen_end=start + num_taken,
        relevant_query=np.zeros(0, np.int64),
        relevant_item=np.zeros(0, np.int32),
        items=interactions.item_row,
        num_items=interactions.num_items,
        num_repeats=0,
    )


def _first_of_pair(interactions: Interactions) -> npt.NDArray[np.bool_]:
    """[num_rows] bool: whether the row is the first of its user and item."""
    pair = interactions.user_row.astype(np.int64) * interactions.num_items + interactions.item_row
    _, first = np.unique(pair, return_index=True)
    is_first = np.zeros(len(pair), dtype=bool)
    is_first[first] = True
    return is_first
