"""Splits: properties that hold for any interactions, and cases worked out by hand."""

from collections import defaultdict
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.config import SplitConfig
from data_prep.events import Events
from data_prep.hashing import order
from data_prep.split import split_events, times_of_rows
from recsys.errors import ConfigError, SourceError
from recsys.schema import SplitRule

QUARTERS = SplitConfig(validation_fraction=0.25, test_fraction=0.25)
ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(-3, 3)), min_size=3, max_size=60)


def events(user: Any, item: Any, time: Any, in_test: Any = None) -> Events:
    user, item, time = (np.asarray(column) for column in (user, item, time))
    return Events(
        user_ids=pa.array([f"u{n}" for n in range(user.max() + 1)]),
        item_ids=pa.array([f"i{n}" for n in range(item.max() + 1)]),
        user=user.astype(np.int32),
        item=item.astype(np.int32),
        timestamp=time.astype(np.int64),
        position=np.arange(len(user)),
        in_test=np.zeros(len(user), bool) if in_test is None else np.asarray(in_test),
        label=None,
        weight=None,
    )


def at(times: list[int]) -> Events:
    return events(np.arange(len(times)), np.zeros(len(times), int), times)


def divide(made: Events, config: SplitConfig, seed: int = 0) -> tuple[npt.NDArray[np.int8], SplitRule]:
    return split_events(made, config, seed, by_position=False)


def test_the_newest_rows_test_and_those_before_them_validate() -> None:
    split, rule = divide(at([80, 10, 70, 20, 60, 30, 50, 40]), QUARTERS)
    assert split.tolist() == [2, 0, 2, 0, 1, 0, 1, 0]
    assert rule.model_dump() == {
        "rule": "temporal",
        "validation": True,
        "seed": 0,
        "validation_fraction": 0.25,
        "test_fraction": 0.25,
        "validation_start": 50,
        "test_start": 70,
        "order": "timestamp",
        "ties": "rows with the timestamp of a cut all fall behind it",
    }


def test_ties_at_a_cut_all_fall_behind_it() -> None:
    split, rule = divide(at([10, 20, 50, 50, 50, 70, 70, 70]), QUARTERS)
    assert split.tolist() == [0, 0, 1, 1, 1, 2, 2, 2]
    assert (rule.validation_start, rule.test_start) == (50, 70)


@pytest.mark.parametrize(
    ("validation", "test", "sizes"), [(0.2, 0.3, [5, 2, 3]), (0.1, 0.8, [1, 1, 8]), (0.1, 0.1, [8, 1, 1])]
)
def test_exact_fractions_cut_at_exact_rows(validation: float, test: float, sizes: list[int]) -> None:
    """1 - 0.3 - 0.2 is a little less than 0.5, which must not cost train a row."""
    split, _ = divide(at(list(range(10))), SplitConfig(validation_fraction=validation, test_fraction=test))
    assert np.bincount(split).tolist() == sizes


def test_a_temporal_split_may_be_cut_at_dates() -> None:
    config = SplitConfig(validation_start=date(1970, 1, 2), test_start=2 * 86_400)
    split, rule = divide(at([0, 86_399, 86_400, 172_799, 172_800]), config)
    assert split.tolist() == [0, 0, 1, 1, 2]
    assert (rule.validation_start, rule.test_start) == (86_400, 172_800)
    assert (rule.validation_fraction, rule.test_fraction) == (None, None)


@pytest.mark.parametrize("test_start", [5, 10])
def test_test_may_not_begin_before_validation(test_start: int) -> None:
    with pytest.raises(ConfigError) as error:
        divide(at(list(range(20))), SplitConfig(validation_start=10, test_start=test_start))
    assert str(error.value) == (
        f"split.validation_start is 10 and split.test_start {test_start}: expected validation to begin before test"
    )


@pytest.mark.parametrize(
    ("times", "rule", "message"),
    [
        ([7] * 20, "temporal", "the temporal split leaves a part empty (train 0, validation 0, test 20)"),
        ([1], "temporal", "the temporal split leaves a part empty (train 0, validation 0, test 1)"),
        ([1, 2], "leave_one_out", "the leave-one-out split leaves a part empty (train 2, validation 0, test 0)"),
    ],
)
def test_an_empty_part_is_refused(times: list[int], rule: Any, message: str) -> None:
    with pytest.raises(SourceError) as error:
        divide(at(times), SplitConfig(rule=rule))
    assert str(error.value) == f"{message}: expected more rows or distinct timestamps"


@settings(deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=3, max_size=80), st.floats(0.05, 0.45), st.floats(0.05, 0.45))
def test_no_two_splits_overlap_in_time(times: list[int], validation: float, test: float) -> None:
    try:
        split, rule = divide(at(times), SplitConfig(validation_fraction=validation, test_fraction=test))
    except SourceError:
        smallest = min(validation, test, 1 - validation - test)
        assert len(set(times)) < len(times) or len(times) * smallest < 1 + 1e-6
        return
    time = np.array(times)
    assert set(split.tolist()) == {0, 1, 2}
    assert time[split == 0].max() < rule.validation_start == time[split == 1].min()
    assert time[split == 1].max() < rule.test_start == time[split == 2].min()


@settings(deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=3, max_size=40), st.integers(-9, 9), st.integers(1, 9))
def test_cuts_by_moment_are_where_they_are_said(times: list[int], validation_start: int, length: int) -> None:
    config = SplitConfig(validation_start=validation_start, test_start=validation_start + length)
    expected = [0 if t < validation_start else 1 if t < validation_start + length else 2 for t in times]
    if len(set(expected)) == 3:
        assert divide(at(times), config)[0].tolist() == expected


@settings(deadline=None)
@given(ROWS, st.integers(0, 3))
def test_each_users_last_two_rows_are_held_out(rows: list[tuple[int, int, int]], seed: int) -> None:
    made = events(*zip(*rows, strict=True))
    ranks = {int(item): rank for rank, item in enumerate(order(made.item_ids, seed))}
    of_user = defaultdict(list)
    for number, (user, _, _) in enumerate(rows):
        of_user[user].append(number)
    if max(map(len, of_user.values())) < 3:
        return
    split, rule = divide(made, SplitConfig(rule="leave_one_out"), seed)
    for mine in of_user.values():
        keys = sorted((rows[number][2], ranks[rows[number][1]]) for number in mine)
        held_out = {part: [(rows[n][2], ranks[rows[n][1]]) for n in mine if split[n] == part] for part in (1, 2)}
        assert held_out == ({1: [], 2: []} if len(mine) < 3 else {1: [keys[-2]], 2: [keys[-1]]})
    assert (rule.validation_fraction, rule.test_fraction, rule.test_start) == (None, None, None)
    assert rule.ties == "rows of a user with one timestamp stand in the order of a seeded hash of the item"


def test_among_equal_timestamps_the_seed_decides_who_is_last() -> None:
    made = events([0] * 12, range(12), [5] * 12)
    config = SplitConfig(rule="leave_one_out")
    tested = {int(np.flatnonzero(divide(made, config, seed)[0] == 2)[0]) for seed in range(30)}
    assert len(tested) > 5


def many(num_rows: int = 20_000) -> Events:
    rng = np.random.default_rng(0)
    return events(rng.integers(300, size=num_rows), rng.integers(500, size=num_rows), rng.integers(9, size=num_rows))


def test_random_fractions_hold_approximately() -> None:
    made = many()
    split, rule = divide(made, SplitConfig(rule="random", validation_fraction=0.2, test_fraction=0.1))
    # Five standard deviations of a binomial count.
    sizes = np.bincount(split) / len(made)
    np.testing.assert_allclose(sizes, [0.7, 0.2, 0.1], atol=5 * (0.25 / len(made)) ** 0.5)
    assert (rule.validation_fraction, rule.test_fraction, rule.test_start) == (0.2, 0.1, None)


def test_a_random_split_depends_on_the_seed() -> None:
    made, config = many(), SplitConfig(rule="random")
    one, same, other = (divide(made, config, seed)[0] for seed in (1, 1, 2))
    assert (one == same).all()
    # Independent splits of 0.8, 0.1, 0.1 agree on 0.66 of the rows.
    assert np.mean(one == other) == pytest.approx(0.66, abs=0.02)


def test_a_random_split_is_unrelated_to_users_items_and_times() -> None:
    made = many()
    is_test = divide(made, SplitConfig(rule="random", test_fraction=0.3))[0] == 2
    for codes in (made.user, made.item, made.timestamp):
        groups = np.bincount(codes)
        z = (np.bincount(codes, weights=is_test) - 0.3 * groups) / np.sqrt(0.21 * groups)
        assert 0.7 < np.mean(z**2) < 1.3 if len(groups) > 100 else np.abs(z).max() < 5


@settings(deadline=None)
@given(ROWS, st.sampled_from(["random", "given"]), st.randoms(use_true_random=False))
def test_chance_sees_neither_the_order_of_rows_nor_of_ids(
    rows: list[tuple[int, int, int]], rule: Any, random: Any
) -> None:
    if rule == "given":
        config = SplitConfig(rule="given", test="t", validation_fraction=0.5)
    else:
        config = SplitConfig(rule="random", validation_fraction=0.3, test_fraction=0.3)
    in_test = [row == rows[0] for row in rows] if rule == "given" else [False] * len(rows)
    shuffled = random.sample(range(len(rows)), len(rows))
    user, item, time = (np.array(column) for column in zip(*rows, strict=True))
    made = events(user, item, time, in_test)
    # The same rows in another order, and the same ids under other codes.
    moved = made.take(np.array(shuffled))
    flipped = Events(**{**vars(moved), "user_ids": moved.user_ids.take(pa.array(range(len(moved.user_ids))[::-1]))})
    flipped = Events(**{**vars(flipped), "user": (len(moved.user_ids) - 1 - moved.user).astype(np.int32)})
    try:
        split = divide(made, config)[0]
    except SourceError:
        return
    assert divide(flipped, config)[0].tolist() == split[shuffled].tolist()
    of_row = defaultdict(set)
    for row, part in zip(rows, split.tolist(), strict=True):
        of_row[row].add(part)
    assert all(len(parts) == 1 for parts in of_row.values())


def test_the_given_table_tests_and_some_of_the_other_rows_validate() -> None:
    made = many()
    in_test = np.arange(len(made)) % 4 == 0
    made = Events(**{**vars(made), "in_test": in_test})
    split, rule = divide(made, SplitConfig(rule="given", test="test.csv", validation_fraction=0.2))
    assert ((split == 2) == in_test).all()
    assert np.mean(split[~in_test] == 1) == pytest.approx(0.2, abs=0.02)
    assert (rule.validation_fraction, rule.test_fraction, rule.validation_start) == (0.2, None, None)


def test_without_times_a_random_split_looks_at_user_and_item_alone() -> None:
    user, item = np.repeat(np.arange(200), 2), np.repeat(np.arange(200), 2)
    made = events(user, item, np.arange(400))
    split, rule = split_events(made, SplitConfig(rule="random"), 0, by_position=True)
    assert (split[0::2] == split[1::2]).all()
    assert rule.order == "row"


def test_without_times_train_comes_before_validation_and_test() -> None:
    position, split = np.array([3 << 40, 1, 2, 5, 4]), np.array([0, 2, 1, 0, 2], np.int8)
    times = times_of_rows(position, split)
    assert np.argsort(times).tolist() == [3, 0, 2, 1, 4]


@pytest.mark.parametrize(
    "options",
    [
        {"rule": "temporal"},
        {"rule": "temporal", "validation_start": 30, "test_start": 40},
        {"rule": "leave_one_out"},
        {"rule": "random"},
        {"rule": "given", "test": "test.csv"},
    ],
)
def test_without_validation_what_would_validate_trains_and_test_is_the_same(options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    made = events(np.arange(400) % 40, rng.integers(0, 30, 400), np.arange(400) // 8, np.arange(400) % 7 == 0)
    split, rule = divide(made, SplitConfig(**options))
    assert rule.validation
    assert (split == 1).any()
    last, without = divide(made, SplitConfig(validation=False, **options))
    assert last.dtype == split.dtype
    np.testing.assert_array_equal(last, [{1: 0}.get(part, part) for part in split.tolist()])
    assert (without.validation, without.validation_fraction, without.validation_start) == (False, None, None)
    assert (without.test_fraction, without.test_start) == (rule.test_fraction, rule.test_start)


def test_without_validation_train_and_test_may_still_not_be_empty() -> None:
    with pytest.raises(SourceError, match=r"leaves a part empty \(train 0, validation 0, test 3\)"):
        divide(at([1, 1, 1]), SplitConfig(validation=False))
