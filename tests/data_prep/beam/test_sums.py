import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.beam.sums import ExactSum

FINITE = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)


def total(arrays: list[list[float]]) -> float:
    exact = ExactSum()
    parts = [exact.add_input(exact.create_accumulator(), np.array(array, dtype=np.float64)) for array in arrays]
    return exact.extract_output(exact.merge_accumulators(reversed(parts)))


@given(st.lists(st.lists(FINITE)))
def test_the_sum_is_that_of_fsum(arrays: list[list[float]]) -> None:
    assert total(arrays) == math.fsum(number for array in arrays for number in array)


@given(st.lists(st.floats(-1e-305, 1e-305)))
def test_subnormal_numbers_are_added_exactly(numbers: list[float]) -> None:
    assert total([numbers]) == float(sum(map(Fraction, numbers), Fraction(0)))


def test_what_cancels_is_not_lost() -> None:
    assert total([[1e300, 1.0], [-1e300, 1e-300]]) == 1.0


def test_a_sum_beyond_floats_is_an_error() -> None:
    with pytest.raises(OverflowError):
        total([[1.7e308, 1.7e308]])


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_only_finite_numbers_are_added(number: float) -> None:
    with pytest.raises(ValueError, match=r"^a sum needs finite numbers$"):
        total([[number]])
