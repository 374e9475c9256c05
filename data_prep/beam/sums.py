"""Sums of floats that do not depend on the order of addition, as workers add in any."""

from collections.abc import Iterable

import apache_beam as beam
import numpy as np
import numpy.typing as npt

_MANTISSA_BITS = 53
_LOW_BITS = 26
_SMALLEST = -1074  # the exponent of the smallest positive double


class ExactSum(beam.CombineFn):
    """The sum of all numbers in float64 arrays, rounded once: what `math.fsum` gives.

    The accumulator is the exact sum as an integer, in units of the smallest positive double.

    Raises:
      ValueError: a number is infinite or not a number.
      OverflowError: the sum is beyond the largest double.
    """

    def create_accumulator(self) -> int:
        """Nothing."""
        return 0

    def add_input(self, accumulator: int, array: npt.NDArray[np.float64]) -> int:
        """Adds [num_rows] float64."""
        return accumulator + _exact_sum(np.asarray(array, dtype=np.float64))

    def merge_accumulators(self, accumulators: Iterable[int]) -> int:
        """Adds up what several workers have."""
        return sum(accumulators)

    def extract_output(self, accumulator: int) -> float:
        """Rounds; the quotient of two integers is the nearest double."""
        return accumulator / (1 << -_SMALLEST)


def _exact_sum(array: npt.NDArray[np.float64]) -> int:
    if not np.isfinite(array).all():
        raise ValueError("a sum needs finite numbers")
    fractions, exponents = np.frexp(array)
    mantissas = np.ldexp(fractions, _MANTISSA_BITS).astype(np.int64)
    shifts = exponents - _MANTISSA_BITS - _SMALLEST
    total = 0
    for shift in np.unique(shifts):
        chosen = mantissas[shifts == shift]
        exact = (int((chosen >> _LOW_BITS).sum()) << _LOW_BITS) + int((chosen & ((1 << _LOW_BITS) - 1)).sum())
        # A subnormal's mantissa ends in zeros, which a negative shift takes away.
        total += exact << int(shift) if shift >= 0 else exact >> -int(shift)
    return total
