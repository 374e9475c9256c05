"""Divides interactions into train, validation and test."""

import math

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_prep.config import SplitConfig
from data_prep.events import Events, Float32s, Int64s
from data_prep.hashing import fingerprints, order, shares
from data_prep.moments import to_moment
from recsys.errors import ConfigError, SourceError
from recsys.schema import SPLITS, SplitRule

Splits = npt.NDArray[np.int8]

TRAIN, VALIDATION, TEST = range(3)
_TIES = {
    "temporal": "rows with the timestamp of a cut all fall behind it",
    "leave_one_out": "rows of a user with one timestamp stand in the order of a seeded hash of the item",
    "random": "rows that agree in user, item and timestamp fall together",
    "given": "rows that agree in user, item and timestamp validate together",
}
# Beyond every position of a source; positions of a table that tests begin at two of these.
POSITIONS_PER_SPLIT = 1 << 58


def split_events(events: Events, config: SplitConfig, seed: int, by_position: bool) -> tuple[Splits, SplitRule]:
    """Divides by the configured rule.

    Args:
      events: what to divide.
      config: the rule.
      seed: of chance and of the order among equal timestamps.
      by_position: whether the source has no time.

    Returns:
      [num_rows] int8 positions in `SPLITS`, and the rule with its cut points.

    Raises:
      SourceError: a split would be empty, for example because all timestamps are equal, or nothing in train would
        weigh anything.
      ConfigError: test would begin before validation.
    """
    cuts = temporal_cuts(events.timestamp, config) if config.rule == "temporal" else None
    split = assigned(events, config, seed, by_position, cuts)
    require_all_parts(np.bincount(split, minlength=len(SPLITS)), config)
    if events.weight is not None:
        require_train_weight(num_weighed(split, events.weight))
    return split, split_rule(config, seed, cuts, by_position)


def assigned(events: Events, config: SplitConfig, seed: int, by_position: bool, cuts: tuple[int, int] | None) -> Splits:
    """[num_rows] int8 positions in `SPLITS`; leave-one-out needs all rows of a user, the other rules any rows.

    Args:
      events: what to divide, in the order of its source.
      config: the rule.
      seed: of chance and of the order among equal timestamps.
      by_position: whether the source has no time.
      cuts: where a temporal split is cut.
    """
    split = _by_rule(events, config, seed, by_position, cuts)
    return split if config.validation else np.where(split == VALIDATION, np.int8(TRAIN), split)


def _by_rule(events: Events, config: SplitConfig, seed: int, by_position: bool, cuts: tuple[int, int] | None) -> Splits:
    if cuts is not None:
        return temporal_split(events.timestamp, *cuts)
    if config.rule == "leave_one_out":
        return leave_one_out_split(events.user, events.timestamp, item_ranks(events.item_ids, seed)[events.item])
    chance = _row_shares(events, seed, by_position)
    return random_split(chance, config) if config.rule == "random" else given_split(chance, events.in_test, config)


def split_rule(config: SplitConfig, seed: int, cuts: tuple[int, int] | None, by_position: bool) -> SplitRule:
    """The record of a split."""
    validation_start, test_start = (None, None) if cuts is None else cuts
    has_fractions = cuts is None or "test_start" not in config.model_fields_set
    has_validation_fraction = config.validation and has_fractions and config.rule != "leave_one_out"
    return SplitRule(
        rule=config.rule,
        validation=config.validation,
        seed=seed,
        validation_fraction=config.validation_fraction if has_validation_fraction else None,
        test_fraction=config.test_fraction if has_fractions and config.rule in ("temporal", "random") else None,
        validation_start=validation_start if config.validation else None,
        test_start=test_start,
        order="row" if by_position else "timestamp",
        ties=_TIES[config.rule],
    )


def require_all_parts(sizes: npt.NDArray[np.int64], config: SplitConfig) -> None:
    """Raises `SourceError` when one of the [3] sizes is 0, that of validation only where the rule has one."""
    if any(size == 0 for number, size in enumerate(sizes) if config.validation or number != VALIDATION):
        got = ", ".join(f"{name} {size}" for name, size in zip(SPLITS, sizes, strict=True))
        named = config.rule.replace("_", "-")
        raise SourceError(f"the {named} split leaves a part empty ({got}): expected more rows or distinct timestamps")


def num_weighed(split: Splits, weight: Float32s) -> int:
    """How many train rows weigh something."""
    return int(((split == TRAIN) & (weight > 0)).sum())


def require_train_weight(num_rows: int) -> None:
    """Raises `SourceError` when no train row weighs anything: there would be nothing to learn from."""
    if not num_rows:
        raise SourceError(
            "every train interaction has weight 0: expected some above 0; mend the column that interactions.weight "
            "names, or remove the key"
        )


def temporal_cuts(timestamps: Int64s, config: SplitConfig) -> tuple[int, int]:
    """Where validation and test begin: configured moments, or where the newest fractions of the rows do."""
    if config.validation_start is not None and config.test_start is not None:
        starts = to_moment(config.validation_start), to_moment(config.test_start)
        if starts[0] >= starts[1]:
            raise ConfigError(
                f"split.validation_start is {config.validation_start} and split.test_start {config.test_start}: "
                "expected validation to begin before test"
            )
        return starts
    ranks = sorted(set(cut_ranks(len(timestamps), config)))
    ordered = np.partition(timestamps, ranks)
    first_validation, first_test = (int(ordered[rank]) for rank in cut_ranks(len(timestamps), config))
    return first_validation, first_test


def cut_ranks(num_rows: int, config: SplitConfig) -> tuple[int, int]:
    """The ranks by time of the first validation and the first test row; 10 rows · 0.3 are 3, not 2.9999 rows."""

    def rank(newest_fraction: float) -> int:
        return min(num_rows - 1, math.floor(num_rows - round(newest_fraction * num_rows, 6)))

    return rank(config.test_fraction + config.validation_fraction), rank(config.test_fraction)


def temporal_split(timestamps: Int64s, validation_start: int, test_start: int) -> Splits:
    """The newest rows test, those before them validate; [num_rows] int8."""
    return (timestamps >= validation_start).astype(np.int8) + (timestamps >= test_start).astype(np.int8)


def leave_one_out_split(user: npt.NDArray[np.int32], timestamp: Int64s, item_rank: Int64s) -> Splits:
    """Each user's last row tests and the one before validates; who has fewer than three is all train."""
    order = np.lexsort((item_rank, timestamp, user))
    counts = np.bincount(user)
    last = np.cumsum(counts)[counts >= 3] - 1
    split = np.zeros(len(user), dtype=np.int8)
    split[order[last]] = TEST
    split[order[last - 1]] = VALIDATION
    return split


def random_split(chance: npt.NDArray[np.float64], config: SplitConfig) -> Splits:
    """Chance decides; [num_rows] int8 for [num_rows] numbers in [0, 1)."""
    is_test = chance < config.test_fraction
    is_validation = ~is_test & (chance < config.test_fraction + config.validation_fraction)
    return (TEST * is_test + VALIDATION * is_validation).astype(np.int8)


def given_split(chance: npt.NDArray[np.float64], in_test: npt.NDArray[np.bool_], config: SplitConfig) -> Splits:
    """The table that tests tests; of the other rows chance lets some validate."""
    return np.where(in_test, TEST, np.where(chance < config.validation_fraction, VALIDATION, TRAIN)).astype(np.int8)


def item_ranks(item_ids: pa.StringArray, seed: int) -> Int64s:
    """[num_items] int64: each id's place in the order of the seeded hash, which is that of the catalogue."""
    ranks = np.empty(len(item_ids), dtype=np.int64)
    ranks[order(item_ids, seed)] = np.arange(len(item_ids))
    return ranks


def times_of_rows(position: Int64s, split: Splits) -> Int64s:
    """Timestamps for rows that have none: their positions, those of train before those of validation, then of test."""
    return position % POSITIONS_PER_SPLIT + split.astype(np.int64) * POSITIONS_PER_SPLIT


def _row_shares(events: Events, seed: int, by_position: bool) -> npt.NDArray[np.float64]:
    return shares(
        fingerprints(events.user_ids, seed)[events.user],
        fingerprints(events.item_ids, seed)[events.item],
        np.zeros(len(events), np.int64) if by_position else events.timestamp,
    )
