"""Leaves out the interactions that a data.toml does not want, and counts them."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from data_prep.config import FiltersConfig
from data_prep.events import Events, Float32s, Int32s, Int64s
from data_prep.moments import to_moment
from recsys.errors import SourceError

Mask = npt.NDArray[np.bool_]


def apply_filters(events: Events, config: FiltersConfig) -> tuple[Events, dict[str, int]]:
    """Applies the time window, the smallest label, the duplicate policy and the k-core, in this order.

    Returns:
      What is left, and by filter how many rows it left out; filters that are not asked for are not named.

    Raises:
      SourceError: nothing is left.
    """
    counts: dict[str, int] = {}
    for name, kept in row_masks(events.timestamp, events.label, config):
        events, counts[name] = _kept(events, kept)
    if config.duplicates != "all":
        chosen, weight = deduplicated(events, config.duplicates)
        events = replace(events, weight=weight)
        events, counts["duplicates"] = _kept(events, chosen)
    if max(config.min_user_interactions, config.min_item_interactions) > 1:
        core = k_core(events.user, events.item, config.min_user_interactions, config.min_item_interactions)
        events, counts["k-core"] = _kept(events, core)
    require_some(len(events), counts)
    return events.compacted(), counts


def require_some(num_rows: int, counts: dict[str, int]) -> None:
    """Raises `SourceError` when the filters, of which each left out a counted number of rows, left none."""
    if not num_rows:
        left_out = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise SourceError(f"the filters leave no interaction ({left_out}): expected some; loosen [filters]")


def row_masks(timestamp: Int64s, label: Float32s | None, config: FiltersConfig) -> Iterator[tuple[str, Mask]]:
    """What the filters that look at a row alone keep: pairs of a filter's name and a [num_rows] bool.

    A row counts against the first filter that leaves it out, so each mask is over the rows that those before kept.
    """
    kept = np.ones(len(timestamp), dtype=bool)
    if config.start is not None:
        kept &= timestamp >= to_moment(config.start)
    if config.end is not None:
        kept &= timestamp < to_moment(config.end)
    if config.start is not None or config.end is not None:
        yield "time window", kept
    if config.min_label is not None and label is not None:
        yield "min_label", label[kept] >= np.float32(config.min_label)


def deduplicated(events: Events, policy: str) -> tuple[Mask, Float32s | None]:
    """Chooses one row of each user and item, by timestamp and then position.

    Returns:
      [num_rows] bool, and the weights, in which `sum` has gathered those of all of the pair's rows.
    """
    pair = events.user.astype(np.int64) * len(events.item_ids) + events.item
    by_time = np.lexsort((events.position, events.timestamp))
    if policy != "first":
        by_time = by_time[::-1]
    _, first, member = np.unique(pair[by_time], return_index=True, return_inverse=True)
    chosen = np.zeros(len(pair), dtype=bool)
    chosen[by_time[first]] = True
    if policy != "sum":
        return chosen, events.weight
    weight = np.ones(len(pair), np.float32) if events.weight is None else events.weight
    summed = np.zeros(len(pair), np.float32)
    summed[by_time] = np.bincount(member, weights=weight[by_time])[member]
    return chosen, summed


def k_core(user: Int32s, item: Int32s, min_user: int, min_item: int) -> Mask:
    """The largest set of rows in which every user has `min_user` and every item `min_item` rows; [num_rows] bool."""
    rows: Int64s = np.arange(len(user))
    while len(rows):
        enough = (np.bincount(user[rows])[user[rows]] >= min_user) & (np.bincount(item[rows])[item[rows]] >= min_item)
        if enough.all():
            break
        rows = rows[enough]
    kept = np.zeros(len(user), dtype=bool)
    kept[rows] = True
    return kept


def _kept(events: Events, kept: Mask) -> tuple[Events, int]:
    """The chosen rows, and how many the others are."""
    left_out = int(len(kept) - kept.sum())
    return (events.take(kept) if left_out else events), left_out
