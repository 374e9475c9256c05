"""Parts of the queries that are looked at by themselves: masks of [num_queries] bool, by the name a report shows."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from recsys.dataset import Dataset, Features
from recsys.errors import ConfigError
from recsys.queries import Protocol, Queries
from recsys.schema import ITEM_ID, PADDING_ID, USER_ID, Feature

Masks = dict[str, npt.NDArray[np.bool_]]

# The least items of each part by history length, the last one without an upper end.
_HISTORY_LENGTHS = (0, 1, 6, 21, 101)
_DECILES = 10
# Of a feature with more values, those with the fewest queries are put together.
_MAX_VALUES = 30
_UNKNOWN = -1
_CATEGORICAL = ("categorical", "multi_categorical", "bucketized")


def make_slices(queries: Queries, dataset: Dataset, protocol: Protocol, by: Sequence[str] = ()) -> Masks:
    """Makes all slices that hold a query.

    By whether users, and for the one relevant item of each query of the `event` protocol items, have train
    interactions; by the length of the history; by the item's popularity; and by each feature of `by`, of users or, by
    the `event` protocol, items.

    Raises:
      ConfigError: a name of `by` is no categorical feature.
    """
    require_categorical(dataset, by)
    slices = _known("users", dataset.user_features[USER_ID][queries.user_row] < dataset.schema.user_id.first_known_id)
    if protocol == "event":
        item_id = dataset.item_features[ITEM_ID][queries.relevant_item]
        slices |= _known("items", item_id < dataset.schema.item_id.first_known_id)
    slices |= by_history_length(queries)
    if protocol == "event":
        slices |= by_popularity(queries.relevant_item, dataset.train_counts)
    for name in by:
        slices |= _by_user(name, queries, dataset)
        if protocol == "event":
            slices |= _by_item(name, queries, dataset)
    return {label: chosen for label, chosen in slices.items() if chosen.any()}


def require_categorical(dataset: Dataset, names: Sequence[str]) -> None:
    """Raises `ConfigError` when one of the names is no categorical feature of users or items."""
    known = [f.name for f in (*dataset.schema.user_features, *dataset.schema.item_features) if f.type in _CATEGORICAL]
    for name in names:
        if name not in known:
            expected = f"one of {', '.join(dict.fromkeys(known))}" if known else "none, for this dataset has no such"
            raise ConfigError(f"--slice-by {name}: expected a categorical feature of users or items, {expected}")


def _known(entity: str, cold: npt.NDArray[np.bool_]) -> Masks:
    return {f"{entity} seen in train": ~cold, f"cold {entity}": cold}


def by_history_length(queries: Queries) -> Masks:
    """By how many items were seen, the same item twice counting twice."""
    length = queries.seen_end - queries.seen_start
    slices = {}
    for least, beyond in zip(_HISTORY_LENGTHS, (*_HISTORY_LENGTHS[1:], None), strict=True):
        label = f"{least} or more" if beyond is None else str(least) if beyond == least + 1 else f"{least}–{beyond - 1}"
        slices[f"history length {label}"] = (length >= least) & (beyond is None or length < beyond)
    return slices


def by_popularity(item: npt.NDArray[np.int32], train_counts: npt.NDArray[np.int64]) -> Masks:
    """Tenths of the catalogue by train count, the most popular first; equal counts share the lowest of their tenths.

    Args:
      item: [num_queries] int32, each query's relevant item.
      train_counts: [num_items] int64.
    """
    less_popular = np.searchsorted(np.sort(train_counts), train_counts)
    decile = less_popular * _DECILES // len(train_counts)
    slices = {}
    for number in reversed(range(_DECILES)):
        counts = train_counts[decile == number]
        if len(counts):
            label = f"popularity decile {number + 1} ({_span(counts)} in train)"
            slices[label] = decile[item] == number
    return slices


def _span(counts: npt.NDArray[np.int64]) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _by_user(name: str, queries: Queries, dataset: Dataset) -> Masks:
    return _by_feature(_feature(name, dataset.schema.user_features), dataset.user_features, queries.user_row, dataset)


def _by_item(name: str, queries: Queries, dataset: Dataset) -> Masks:
    feature = _feature(name, dataset.schema.item_features)
    return _by_feature(feature, dataset.item_features, queries.relevant_item, dataset)


def _feature(name: str, features: Sequence[Feature]) -> Feature | None:
    return next((feature for feature in features if feature.name == name), None)


def _by_feature(feature: Feature | None, table: Features, row: npt.NDArray[np.int32], dataset: Dataset) -> Masks:
    """A slice for each value that rows have, the most frequent first; a row with several values is in each."""
    if feature is None:
        return {}
    ids = table[feature.name][row].reshape(len(row), -1)
    ids = np.where((ids > PADDING_ID) & (ids < feature.first_known_id), _UNKNOWN, ids)
    values, counts = np.unique(ids[ids != PADDING_ID], return_counts=True)
    by_frequency = values[np.lexsort((values, -counts))]
    names = _value_names(feature, dataset)
    slices = {f"{feature.name}: {names[id_]}": (ids == id_).any(axis=1) for id_ in by_frequency[:_MAX_VALUES].tolist()}
    rarer = by_frequency[_MAX_VALUES:]
    if len(rarer):
        slices[f"{feature.name}, {len(rarer)} rarer values"] = np.isin(ids, rarer).any(axis=1)
    return slices | {f"{feature.name}, no value": (ids == PADDING_ID).all(axis=1)}


def _value_names(feature: Feature, dataset: Dataset) -> dict[int, str]:
    """What each id of a feature stands for."""
    if feature.type == "bucketized":
        ends = [f"{end:g}" for end in dataset.manifest.numeric_fits[feature.name].boundaries]
        spans = zip(["", *(f"from {end}" for end in ends)], [*(f"below {end}" for end in ends), ""], strict=True)
        return {id_: " ".join(filter(None, span)) for id_, span in enumerate(spans, 1)}
    return {_UNKNOWN: "unknown to train"} | dict(enumerate(dataset.vocabulary(feature.name), feature.first_known_id))
