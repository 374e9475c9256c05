"""What rankings are like: numbers by hand, and the Gini index by mean absolute differences."""

from dataclasses import replace

import numpy as np
import pytest

from recsys import beyond_accuracy
from recsys.queries import Queries

RANKED = np.array([[4, 2], [2, -1], [0, 2]], np.int32)
TRAIN_COUNTS = np.array([8, 0, 16, 4, 0, 4])
# Query 0 saw nothing, query 1 the items 3 and 0, query 2 the item 5.
QUERIES = Queries(
    user_row=np.arange(3, dtype=np.int32),
    seen_start=np.array([0, 0, 2]),
    seen_end=np.array([0, 2, 3]),
    relevant_query=np.arange(3),
    relevant_item=np.array([1, 1, 1], np.int32),
    items=np.array([3, 0, 5], np.int32),
    num_items=6,
    num_repeats=0,
)


def test_coverage_ignores_empty_places() -> None:
    assert beyond_accuracy.coverage(RANKED, num_items=6) == 3 / 6


def test_gini_is_the_mean_absolute_difference() -> None:
    rng = np.random.default_rng(0)
    ranked = (50 * rng.random(size=(300, 7)) ** 3).astype(np.int32)
    ranked[rng.random(ranked.shape) < 0.1] = -1
    counts = np.array([(ranked == item).sum() for item in range(60)])
    differences = np.abs(counts[:, None] - counts).sum()
    assert beyond_accuracy.gini(ranked, 60) == pytest.approx(differences / (2 * 59 * counts.sum()))


@pytest.mark.parametrize(
    ("ranked", "expected"), [([[0, 1], [2, 3]], 0), ([[1], [1], [1]], 1), ([[0, 1], [0, 1]], 2 / 3)]
)
def test_gini_goes_from_even_to_one_item(ranked: list[list[int]], expected: float) -> None:
    assert beyond_accuracy.gini(np.array(ranked, np.int32), 4) == pytest.approx(expected)


def test_gini_of_a_single_item_is_even() -> None:
    assert beyond_accuracy.gini(np.zeros((3, 1), np.int32), 1) == 0


def test_novelty_is_the_mean_information_of_what_is_recommended() -> None:
    """Shares of 32 interactions: item 4, never taken, as 1; item 2 16, three times; item 0 8."""
    assert beyond_accuracy.novelty(RANKED, TRAIN_COUNTS) == pytest.approx((5 + 1 + 1 + 2 + 1) / 5)


def test_popularity_lift_compares_with_what_was_seen() -> None:
    """Query 1 is shown 16 after (4 + 8) / 2, query 2 (8 + 16) / 2 after 4; query 0 saw nothing."""
    lift = beyond_accuracy.popularity_lift(RANKED, QUERIES, TRAIN_COUNTS)
    assert lift == pytest.approx((16 + 12) / (6 + 4) - 1)


def test_popularity_lift_needs_something_seen() -> None:
    nobody = replace(QUERIES, seen_start=np.zeros(3, int), seen_end=np.zeros(3, int))
    assert beyond_accuracy.popularity_lift(RANKED, nobody, TRAIN_COUNTS) is None
    assert beyond_accuracy.popularity_lift(RANKED, QUERIES, np.zeros(6, int)) is None


def test_all_are_measured_at_once() -> None:
    measured = beyond_accuracy.measure(RANKED, QUERIES, TRAIN_COUNTS)
    assert list(measured) == ["coverage", "gini", "novelty", "popularity_lift"]
    assert measured["coverage"] == 0.5
    assert measured["popularity_lift"] == pytest.approx(1.8)
