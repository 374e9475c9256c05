"""Filters, against pandas and against removing one row at a time."""

from collections import Counter
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.config import FiltersConfig
from data_prep.events import Events
from data_prep.filters import apply_filters, k_core
from recsys.errors import SourceError

PAIRS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=45)


def events(
    rows: list[tuple[int, int, int]], label: list[float] | None = None, weight: list[float] | None = None
) -> Events:
    """Rows of user, item and timestamp; ids are `u0` … and `i0` …."""
    user, item, time = (np.array([row[axis] for row in rows], np.int64) for axis in range(3))
    return Events(
        user_ids=pa.array([f"u{n}" for n in range(user.max() + 1)]),
        item_ids=pa.array([f"i{n}" for n in range(item.max() + 1)]),
        user=user.astype(np.int32),
        item=item.astype(np.int32),
        timestamp=time,
        position=np.arange(len(rows)) * 10,
        in_test=np.zeros(len(rows), bool),
        label=None if label is None else np.array(label, np.float32),
        weight=None if weight is None else np.array(weight, np.float32),
    )


def filtered(made: Events, **config: Any) -> tuple[list[int], dict[str, int]]:
    """The numbers of the rows that stay, and what is counted."""
    left, counts = apply_filters(made, FiltersConfig(**config))
    return (left.position // 10).tolist(), counts


def test_nothing_is_left_out_unless_asked() -> None:
    made = events([(0, 0, 1), (0, 0, 1), (1, 1, 2)])
    assert filtered(made) == ([0, 1, 2], {})


def test_the_time_window_includes_its_start_but_not_its_end() -> None:
    made = events([(0, 0, time) for time in (1, 2, 3, 4)])
    assert filtered(made, start=2, end=4) == ([1, 2], {"time window": 2})
    assert filtered(made, start=3) == ([2, 3], {"time window": 2})
    days = events([(0, 0, day * 86_400 - 1) for day in (1, 2, 3)])
    assert filtered(days, start=date(1970, 1, 2), end=date(1970, 1, 3)) == ([1], {"time window": 2})


def test_the_smallest_label_counts() -> None:
    made = events([(0, 0, 1)] * 3, label=[3.5, 4.0, 4.1])
    assert filtered(made, min_label=4) == ([1, 2], {"min_label": 1})
    tenths = events([(0, 0, 1)] * 2, label=[0.1, 0.0])
    assert filtered(tenths, min_label=0.1) == ([0], {"min_label": 1})


def test_a_row_counts_against_the_first_filter_that_leaves_it_out() -> None:
    made = events(
        [(0, 0, 0), (0, 1, 5), (0, 2, 6), (0, 2, 7), (1, 3, 8), (0, 3, 9)], label=[1.0, 1.0, 5.0, 5.0, 5.0, 5.0]
    )
    kept, counts = filtered(made, start=1, min_label=3, duplicates="last", min_user_interactions=2)
    assert kept == [3, 5]
    assert counts == {"time window": 1, "min_label": 1, "duplicates": 1, "k-core": 1}


def test_ids_that_no_row_has_are_forgotten() -> None:
    left, _ = apply_filters(events([(0, 0, 1), (1, 1, 2), (2, 0, 3)]), FiltersConfig(start=2))
    assert left.user_ids.to_pylist() == ["u1", "u2"]
    assert left.item_ids.to_pylist() == ["i0", "i1"]
    assert (left.user.tolist(), left.item.tolist()) == ([0, 1], [1, 0])


def test_filters_that_leave_nothing_say_what_they_left_out() -> None:
    with pytest.raises(SourceError) as error:
        filtered(events([(0, 0, 1), (0, 1, 1)]), start=1, min_item_interactions=2)
    assert str(error.value) == (
        "the filters leave no interaction (time window 0, k-core 2): expected some; loosen [filters]"
    )


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 4), st.integers(0, 8)), min_size=1, max_size=40
    ),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_duplicates_match_a_groupby(rows: list[tuple[int, int, int, int]], weighted: bool, random: Any) -> None:
    made = events([row[:3] for row in rows], weight=[row[3] / 4 for row in rows] if weighted else None)
    frame = pd.DataFrame(rows, columns=["user", "item", "time", "weight"])
    frame["weight"] = frame["weight"] / 4 if weighted else 1.0
    by_time = frame.reset_index().sort_values(["time", "index"], kind="stable")
    pairs = by_time.groupby(["user", "item"])
    first, last, weight = pairs["index"].first(), pairs["index"].last(), pairs["weight"].sum()

    assert filtered(made, duplicates="first") == (sorted(first), {"duplicates": len(rows) - len(first)})
    assert filtered(made, duplicates="last") == (sorted(last), {"duplicates": len(rows) - len(first)})
    summed, counts = apply_filters(made, FiltersConfig(duplicates="sum"))
    assert summed.weight is not None
    assert counts == {"duplicates": len(rows) - len(first)}
    found = dict(zip((summed.position // 10).tolist(), summed.weight.tolist(), strict=True))
    assert found == {row: weight[pair] for pair, row in last.items()}

    order = np.array(random.sample(range(len(rows)), len(rows)))
    for policy in ("first", "last"):
        assert sorted(filtered(made.take(order), duplicates=policy)[0]) == filtered(made, duplicates=policy)[0]


def removed_one_by_one(pairs: list[tuple[int, int]], min_user: int, min_item: int, random: Any) -> list[int]:
    """The rows that are left when rows of users or items with too few go, one at a time, in any order."""
    left = list(range(len(pairs)))
    while True:
        users, items = Counter(pairs[row][0] for row in left), Counter(pairs[row][1] for row in left)
        bad = [row for row in left if users[pairs[row][0]] < min_user or items[pairs[row][1]] < min_item]
        if not bad:
            return left
        left.remove(random.choice(bad))


@settings(deadline=None)
@given(PAIRS, st.integers(1, 4), st.integers(1, 4), st.randoms(use_true_random=False))
def test_a_k_core_is_the_largest_set_in_which_everyone_has_enough(
    pairs: list[tuple[int, int]], min_user: int, min_item: int, random: Any
) -> None:
    user, item = (np.array([pair[axis] for pair in pairs], np.int32) for axis in range(2))
    kept = k_core(user, item, min_user, min_item)
    assert np.flatnonzero(kept).tolist() == removed_one_by_one(pairs, min_user, min_item, random)
    for codes, least in ((user[kept], min_user), (item[kept], min_item)):
        assert all(count >= least for count in Counter(codes.tolist()).values())
    assert k_core(user[kept], item[kept], min_user, min_item).all()


def test_removal_goes_on_until_nothing_changes() -> None:
    """Each round takes one more link off a chain: u0-i0-u1-i1-…"""
    links = [(n // 2 + n % 2, n // 2) for n in range(20)]
    user, item = (np.array([link[axis] for link in links], np.int32) for axis in range(2))
    assert not k_core(user, item, 2, 2).any()


def test_a_filter_runs_on_what_the_former_ones_left() -> None:
    """u0 has two rows of one item: the duplicates go first, so one is left and u0 goes too."""
    made = events([(0, 0, 1), (0, 0, 2), (1, 0, 3), (1, 1, 4)])
    assert filtered(made, duplicates="first", min_user_interactions=2) == ([2, 3], {"duplicates": 1, "k-core": 1})
    assert filtered(replace(made), min_user_interactions=2) == ([0, 1, 2, 3], {"k-core": 0})
