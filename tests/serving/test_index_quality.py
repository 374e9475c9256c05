"""Recall of an index, on numbers worked out by hand and against NumPy."""

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from partitioned import partitioned

from serving.index import ExactIndex, Index
from serving.index_quality import least_right_scores, lower_bound, recalls

ONE_QUERY = np.array([[1]], np.float32)


def column(*values: float) -> ExactIndex:
    """An index over candidates of one dimension, whose scores are their values."""
    return ExactIndex(np.array(values, np.float32)[:, None])


def recall(index: Index, exact: ExactIndex, queries: npt.NDArray[np.float32], k: int) -> float:
    return float(recalls(index.search, least_right_scores(exact, queries, k), queries, k).mean())


def test_recall_is_the_found_share_of_the_best() -> None:
    """The best two are 4 and 3; an index that does not see the 4 finds 3 and 2."""
    assert recall(column(1, 2, 3, 0), column(1, 2, 3, 4), ONE_QUERY, k=2) == 0.5


def test_a_candidate_that_ties_with_the_last_of_the_best_is_right() -> None:
    """The best two are rows 0 and 1; row 2, which the index finds instead of row 1, scores as much."""
    assert recall(column(3, 0, 2), column(3, 2, 2), ONE_QUERY, k=2) == 1


def test_a_candidate_short_of_the_last_of_the_best_is_wrong() -> None:
    assert recall(column(3, 0, 1.999), column(3, 2, 1.999), ONE_QUERY, k=2) == 0.5


@pytest.mark.parametrize("sign", [1, -1])
def test_recall_equals_numpy_over_several_batches_of_queries(sign: int) -> None:
    """Small integers: scores are exact and at least 1 apart. With negative ones too, where margins change sides."""
    rng = np.random.default_rng(0)
    candidates = (sign * rng.integers(1, 50, size=(1500, 16))).astype(np.float32)
    queries = rng.integers(1, 50, size=(600, 16)).astype(np.float32)
    index = partitioned(candidates, 0.15, 1)
    found = index.search(tf.constant(queries), tf.constant(20))[0].numpy()
    reached = recall(index, ExactIndex(candidates), queries, k=20)
    assert reached == pytest.approx(numpy_recall(candidates, queries, found), abs=1e-6)
    assert 0.05 < reached < 0.98


def numpy_recall(
    candidates: npt.NDArray[np.float32], queries: npt.NDArray[np.float32], found: npt.NDArray[np.int32]
) -> float:
    products = queries @ candidates.T
    twentieth = -np.sort(-products, axis=1)[:, found.shape[1] - 1, None]
    return float((np.take_along_axis(products, found, axis=1) >= twentieth)[found >= 0].sum() / found.size)


def test_the_lower_bound_is_missed_by_one_sample_in_twenty() -> None:
    """Of 4000 samples of 200, 95 % have a bound below the true mean; skewed as recalls are."""
    rng = np.random.default_rng(0)
    samples = 1 - rng.beta(2, 20, size=(4000, 200))
    covered = np.mean([lower_bound(sample) < 1 - 2 / 22 for sample in samples])
    assert 0.94 < covered < 0.97


def test_what_never_varies_is_its_own_lower_bound() -> None:
    assert lower_bound(np.ones(10)) == 1
