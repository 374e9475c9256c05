"""What a person wants to know of a dataset, and the leak audit.

Everything about interactions is a sum over users, and everything about catalogues a sum over items, so that parts may
be counted apart and added.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.sequences import Sequences
from data_prep.split import TEST, TRAIN, VALIDATION
from recsys.schema import SPLITS

Int64s = npt.NDArray[np.int64]
_TIME_BINS = 60
_POPULARITY_POINTS = 60


@dataclass(frozen=True)
class UserProfile:
    """Counts over the interactions of some users; adding two gives those of both.

    Attributes:
      rows: [3] by split.
      time: [3, bins] by split and bin of time.
      history_lengths: [3, bins] by split and bin of history length.
      audit: [6], named by `AUDIT`.
      users: [3]: with any interaction, in test, in test and in train.
    """

    rows: Int64s
    time: Int64s
    history_lengths: Int64s
    audit: Int64s
    users: Int64s

    def __add__(self, other: "UserProfile") -> "UserProfile":
        """Sums every count."""
        return UserProfile(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


AUDIT = (
    "future_in_train",
    "validation_pairs_in_train",
    "test_pairs_in_train",
    "users_with_ties_across_cuts",
    "test_cold_users",
    "test_interactions_of_cold_users",
)


def time_edges(first: int, last: int) -> Int64s:
    """[bins + 1] int64 distinct edges from the first timestamp to just after the last."""
    steps = np.arange(_TIME_BINS + 1)
    return np.unique(np.array([first + (last + 1 - first) * int(step) // _TIME_BINS for step in steps], np.int64))


def length_bins(history_length: int) -> Int64s:
    """[bins] int64: the smallest history length of each bin."""
    if history_length <= 10:
        return np.arange(history_length + 1)
    return np.unique(np.r_[np.arange(10), np.geomspace(10, history_length, 20).astype(np.int64)])


def profile_users(sequences: Sequences, edges: Int64s, history_length: int, test_start: int) -> UserProfile:
    """Counts over the interactions of some users.

    Args:
      sequences: all interactions of these users.
      edges: as `time_edges` gives them for all users.
      history_length: the longest history.
      test_start: the first timestamp of a test interaction, of all users.
    """
    split, user = sequences.split, sequences.user_row
    lengths = sequences.history_end - sequences.history_start
    bins = length_bins(history_length)
    train_users, test_users = _distinct(user[split == TRAIN]), _distinct(user[split == TEST])
    cold = ~np.isin(test_users, train_users)
    pairs_in_train = _pairs_in_train(sequences)
    return UserProfile(
        rows=np.bincount(split, minlength=3),
        time=_by_split(split, np.searchsorted(edges, sequences.timestamp, side="right") - 1, len(edges) - 1),
        history_lengths=_by_split(split, np.searchsorted(bins, lengths, side="right") - 1, len(bins)),
        audit=np.array(
            [
                ((split == TRAIN) & (sequences.timestamp >= test_start)).sum(),
                pairs_in_train[VALIDATION],
                pairs_in_train[TEST],
                _users_with_ties(sequences),
                cold.sum(),
                np.isin(user[split == TEST], test_users[cold]).sum(),
            ]
        ),
        users=np.array([len(_distinct(user)), len(test_users), len(test_users) - cold.sum()]),
    )


def describe(
    users: UserProfile,
    edges: Int64s,
    history_length: int,
    user_counts: "EntityCounts",
    item_counts: "EntityCounts",
    coverage: dict[str, dict[str, float]],
    timed: bool,
) -> dict[str, Any]:
    """The content of `statistics.json`; what needs timestamps is None where the source is not `timed`."""
    audit: dict[str, int | None] = dict(zip(AUDIT, users.audit.tolist(), strict=True))
    audit["test_cold_items"] = item_counts.cold_in_test
    audit["test_interactions_of_cold_items"] = item_counts.interactions_of_cold_in_test
    if not timed:
        audit |= {"future_in_train": None, "users_with_ties_across_cuts": None}
    return {
        "interactions": int(users.rows.sum()),
        "users": user_counts.entities,
        "items": item_counts.entities,
        "first_timestamp": int(edges[0]) if timed else None,
        "last_timestamp": int(edges[-1]) - 1 if timed else None,
        "test_users": int(users.users[1]),
        "test_users_seen_in_train": int(users.users[2]),
        "items_without_train_interaction": item_counts.without_train,
        "users_without_interactions": user_counts.without_any,
        "items_without_interactions": item_counts.without_any,
        "users_not_listed": user_counts.not_listed,
        "items_not_listed": item_counts.not_listed,
        "time_histogram": _histogram("edges", edges, users.time) if timed else None,
        "history_lengths": _histogram("length", length_bins(history_length), users.history_lengths),
        "popularity": popularity(item_counts.train_descending),
        "feature_coverage": coverage,
        "audit": audit,
    }


@dataclass(frozen=True)
class EntityCounts:
    """Counts over users or items.

    Attributes:
      entities: all of them.
      without_any: without an interaction.
      without_train: without a train interaction.
      not_listed: named by interactions, but absent from the table of their own.
      cold_in_test: with a test interaction, but none in train.
      interactions_of_cold_in_test: the test interactions of those.
      train_descending: [entities] int64, train interactions of each, largest first.
    """

    entities: int
    without_any: int
    without_train: int
    not_listed: int
    cold_in_test: int
    interactions_of_cold_in_test: int
    train_descending: Int64s

    @classmethod
    def of(cls, train: Int64s, test: Int64s, interactions: Int64s, listed: int | None) -> "EntityCounts":
        """Counts entities by their [entities] int64 train, test and all interactions; `listed` as `count_entities`."""
        cold = (train == 0) & (test > 0)
        return cls(
            entities=len(train),
            without_any=int((interactions == 0).sum()),
            without_train=int((train == 0).sum()),
            not_listed=0 if listed is None else len(train) - listed,
            cold_in_test=int(cold.sum()),
            interactions_of_cold_in_test=int(test[cold].sum()),
            train_descending=np.sort(train)[::-1],
        )


def add_entity_counts(parts: Sequence[EntityCounts], listed: int | None) -> EntityCounts:
    """Those of all users or items, of which each is in one part; `listed` as in `count_entities`."""
    names = ("entities", "without_any", "without_train", "cold_in_test", "interactions_of_cold_in_test")
    sums = {name: sum(getattr(part, name) for part in parts) for name in names}
    return EntityCounts(
        **sums,
        not_listed=0 if listed is None else sums["entities"] - listed,
        train_descending=np.sort(np.concatenate([part.train_descending for part in parts]))[::-1],
    )


def count_entities(
    rows: npt.NDArray[np.int32], split: npt.NDArray[np.int8], entities: int, listed: int | None
) -> EntityCounts:
    """Counts users or items.

    Args:
      rows: [num_interactions] int32, the user or item row of each interaction.
      split: [num_interactions] int8.
      entities: how many there are.
      listed: how many a table of their own lists; None without one.
    """
    train, test = (np.bincount(rows[split == part], minlength=entities) for part in (TRAIN, TEST))
    return EntityCounts.of(train, test, np.bincount(rows, minlength=entities), listed)


def popularity(train_descending: Int64s) -> dict[str, Any]:
    """How train interactions concentrate: counts at log-spaced ranks, and the shares of the most popular items."""
    ranks = np.unique(np.geomspace(1, len(train_descending), _POPULARITY_POINTS).round().astype(np.int64))
    total = int(train_descending.sum())

    def share(fraction: float) -> float:
        return float(train_descending[: max(1, round(fraction * len(train_descending)))].sum() / total)

    return {
        "rank": ranks.tolist(),
        "interactions": train_descending[ranks - 1].tolist(),
        "top_1_percent": share(0.01),
        "top_10_percent": share(0.1),
    }


def _distinct(ascending: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    return ascending[np.r_[True, ascending[1:] != ascending[:-1]]] if len(ascending) else ascending


def _by_split(split: npt.NDArray[np.int8], bin_: Int64s, num_bins: int) -> Int64s:
    flat = np.bincount(split.astype(np.int64) * num_bins + bin_, minlength=len(SPLITS) * num_bins)
    return flat.reshape(len(SPLITS), num_bins)


def _histogram(name: str, bins: Int64s, counts: Int64s) -> dict[str, list[int]]:
    return {name: bins.tolist(), **{split: counts[number].tolist() for number, split in enumerate(SPLITS)}}


def _pairs_in_train(sequences: Sequences) -> dict[int, int]:
    """By held-out split its interactions whose user and item are together in train, too."""
    pair = sequences.user_row.astype(np.int64) << 32 | sequences.item_row
    train = np.sort(pair[sequences.split == TRAIN])
    found = {}
    for split in (VALIDATION, TEST):
        held_out = pair[sequences.split == split]
        found[split] = int((np.searchsorted(train, held_out, "right") > np.searchsorted(train, held_out)).sum())
    return found


def _users_with_ties(sequences: Sequences) -> int:
    """Users who have one timestamp in two splits."""
    user, time, split = sequences.user_row, sequences.timestamp, sequences.split
    if ((user[1:] == user[:-1]) & (time[1:] < time[:-1])).any():  # splits that are no stretches of time
        order = np.lexsort((split, time, user))
        user, time, split = user[order], time[order], split[order]
    tied = (user[1:] == user[:-1]) & (time[1:] == time[:-1]) & (split[1:] != split[:-1])
    return len(_distinct(user[1:][tied]))
