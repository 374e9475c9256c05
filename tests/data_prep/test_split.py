"""The global temporal split."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.config import SplitConfig
from data_prep.split import temporal_split
from recsys.errors import SourceError

QUARTERS = SplitConfig(validation_fraction=0.25, test_fraction=0.25)


def test_the_newest_rows_test_and_those_before_them_validate() -> None:
    split, rule = temporal_split(np.array([80, 10, 70, 20, 60, 30, 50, 40]), QUARTERS)
    assert split.tolist() == [2, 0, 2, 0, 1, 0, 1, 0]
    assert (rule.validation_start, rule.test_start) == (50, 70)
    assert (rule.validation_fraction, rule.test_fraction) == (0.25, 0.25)


def test_ties_at_a_cut_all_fall_behind_it() -> None:
    split, rule = temporal_split(np.array([10, 20, 50, 50, 50, 70, 70, 70]), QUARTERS)
    assert split.tolist() == [0, 0, 1, 1, 1, 2, 2, 2]
    assert (rule.validation_start, rule.test_start) == (50, 70)


@pytest.mark.parametrize(
    ("validation", "test", "sizes"), [(0.2, 0.3, [5, 2, 3]), (0.1, 0.8, [1, 1, 8]), (0.1, 0.1, [8, 1, 1])]
)
def test_exact_fractions_cut_at_exact_rows(validation: float, test: float, sizes: list[int]) -> None:
    """1 - 0.3 - 0.2 is a little less than 0.5, which must not cost train a row."""
    split, _ = temporal_split(np.arange(10), SplitConfig(validation_fraction=validation, test_fraction=test))
    assert np.bincount(split).tolist() == sizes


@pytest.mark.parametrize(
    ("timestamps", "sizes"),
    [([7] * 20, "train 0, validation 0, test 20"), ([1], "train 0, validation 0, test 1")],
)
def test_an_empty_part_is_refused(timestamps: list[int], sizes: str) -> None:
    with pytest.raises(SourceError) as error:
        temporal_split(np.array(timestamps), SplitConfig())
    assert str(error.value) == (
        f"the temporal split leaves a part empty ({sizes}): expected more rows or distinct timestamps"
    )


@settings(deadline=None)  # other work may share the machine
@given(
    st.lists(st.integers(-50, 50), min_size=3, max_size=80),
    st.floats(0.05, 0.45),
    st.floats(0.05, 0.45),
)
def test_every_row_is_in_one_split_and_no_split_overlaps_in_time(
    timestamps: list[int], validation: float, test: float
) -> None:
    times = np.array(timestamps)
    try:
        split, rule = temporal_split(times, SplitConfig(validation_fraction=validation, test_fraction=test))
    except SourceError:
        smallest = min(validation, test, 1 - validation - test)
        assert len(set(timestamps)) < len(timestamps) or len(timestamps) * smallest < 1 + 1e-9
        return
    assert set(split.tolist()) == {0, 1, 2}
    assert times[split == 0].max() < rule.validation_start == times[split == 1].min()
    assert times[split == 1].max() < rule.test_start == times[split == 2].min()
