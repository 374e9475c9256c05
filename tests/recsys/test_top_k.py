"""The two-stage search against a stable sort in NumPy."""

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from recsys.top_k import best_of_each_row

Floats = npt.NDArray[np.float32]
NOTHING = np.zeros((0, 2), np.int64)


def search(scores: Floats, k: int, excluded: npt.NDArray[np.int64] = NOTHING) -> tuple[list[list[int]], bool]:
    columns, any_nan = best_of_each_row(tf.constant(scores), tf.constant(excluded), k)
    return columns.numpy().tolist(), bool(any_nan)


def stable_sort(scores: Floats, k: int, excluded: npt.NDArray[np.int64] = NOTHING) -> list[list[int]]:
    allowed = scores.copy()
    allowed[excluded[:, 0], excluded[:, 1]] = -np.inf
    order = np.argsort(-allowed, axis=1, kind="stable")[:, :k]
    return np.where(np.take_along_axis(allowed, order, axis=1) == -np.inf, -1, order).tolist()


@pytest.mark.parametrize("num_columns", [1, 7, 64, 501, 4000])
@pytest.mark.parametrize("k", [1, 3, 20, 500])
@pytest.mark.parametrize("distinct", [1, 3, 40, 10**6])
def test_the_best_are_those_of_a_stable_sort(num_columns: int, k: int, distinct: int) -> None:
    """With many ties, few, and none; groups of 1 to 64 columns, which may not divide the row."""
    rng = np.random.default_rng(num_columns + k + distinct)
    scores = rng.integers(distinct, size=(9, num_columns)).astype(np.float32)
    excluded = rng.integers([9, num_columns], size=(num_columns, 2))
    k = min(k, num_columns)
    assert search(scores, k, excluded) == (stable_sort(scores, k, excluded), False)


def test_the_best_may_all_be_neighbours() -> None:
    scores = np.zeros((1, 4000), np.float32)
    scores[0, 1990:2010] = np.arange(20)
    assert search(scores, 20)[0] == [[*range(2009, 1990, -1), 0]]


def test_only_minus_infinity_is_never_chosen() -> None:
    scores = np.full((2, 300), -np.inf, np.float32)
    scores[0, [5, 290]] = [-1e38, np.inf]
    assert search(scores, 4)[0] == [[290, 5, -1, -1], [-1] * 4]


@pytest.mark.parametrize("column", [0, 17, 299])
def test_a_score_that_is_no_number_is_told(column: int) -> None:
    scores = np.random.default_rng(0).normal(size=(5, 300)).astype(np.float32)
    scores[3, column] = np.nan
    assert search(scores, 4)[1]
