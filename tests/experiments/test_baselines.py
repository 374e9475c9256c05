"""Baselines against counts by pandas and by hand."""

import numpy as np
import pandas as pd
import pytest

from experiments.baselines import RandomScorer, popularity, recent_popularity
from recsys.dataset import Dataset
from recsys.interactions import Interactions, load_interactions
from recsys.queries import Queries, make_queries

# By user and time. Train: items 0, 1, 1, 2; validation: 3, 3; test: 0.
BY_HAND = Interactions(
    user_row=np.array([0, 0, 0, 1, 1, 1, 1], np.int32),
    item_row=np.array([0, 1, 3, 1, 2, 3, 0], np.int32),
    timestamp=np.array([10, 40, 50, 20, 30, 60, 70], np.int64),
    split=np.array([0, 0, 1, 0, 0, 1, 2], np.int8),
    user_start=np.array([0, 3, 7], np.int64),
    num_items=5,
)


def queries_of(interactions: Interactions, split: str = "test") -> Queries:
    return make_queries(interactions, split, "event")


@pytest.fixture(scope="module")
def interactions(tiny_dataset: Dataset) -> Interactions:
    return load_interactions(tiny_dataset)


@pytest.fixture(scope="module")
def table(interactions: Interactions) -> pd.DataFrame:
    columns = {name: getattr(interactions, name) for name in ("user_row", "item_row", "timestamp", "split")}
    return pd.DataFrame(columns)


@pytest.mark.parametrize(("split", "counts"), [("validation", [1, 2, 1, 0, 0]), ("test", [1, 2, 1, 2, 0])])
def test_popularity_counts_what_came_before_the_split(split: str, counts: list[int]) -> None:
    scores = popularity(BY_HAND, split)(queries_of(BY_HAND), 0, 1)
    assert scores.numpy().tolist() == [counts]


@pytest.mark.parametrize(
    ("split", "fraction", "counts"),
    [
        ("validation", 0.5, [0, 1, 1, 0, 0]),  # of 10, 20, 30, 40 the last two: item 2 at 30, item 1 at 40
        ("test", 0.5, [0, 1, 0, 2, 0]),  # and of six the last three
        ("test", 0.01, [0, 0, 0, 1, 0]),  # one at least
        ("test", 1.0, [1, 2, 1, 2, 0]),
    ],
)
def test_recent_popularity_counts_the_latest_of_it(split: str, fraction: float, counts: list[int]) -> None:
    scores = recent_popularity(BY_HAND, split, fraction)(queries_of(BY_HAND), 0, 1)
    assert scores.numpy().tolist() == [counts]


@pytest.mark.parametrize(("split", "before"), [("validation", 1), ("test", 2)])
def test_popularity_equals_pandas(interactions: Interactions, table: pd.DataFrame, split: str, before: int) -> None:
    counts = table[table["split"] < before].groupby("item_row").size()
    expected = counts.reindex(range(interactions.num_items), fill_value=0).to_numpy()
    scores = popularity(interactions, split)(queries_of(interactions), 3, 8).numpy()
    np.testing.assert_array_equal(scores, np.tile(expected, (5, 1)))


def test_recent_popularity_equals_pandas(interactions: Interactions, table: pd.DataFrame) -> None:
    earlier = table[table["split"] < 2].sort_values("timestamp", kind="stable")
    counts = earlier.tail(round(0.2 * len(earlier))).groupby("item_row").size()
    expected = counts.reindex(range(interactions.num_items), fill_value=0).to_numpy()
    scores = recent_popularity(interactions, "test")(queries_of(interactions), 0, 1).numpy()
    np.testing.assert_array_equal(scores[0], expected)


def test_random_scores_are_even_and_the_same_for_one_seed(interactions: Interactions) -> None:
    queries = queries_of(interactions)
    scores = RandomScorer(3)(queries, 0, 200).numpy()
    assert scores.shape == (200, 293)
    np.testing.assert_array_equal(RandomScorer(3)(queries, 0, 200), scores)
    assert np.abs(RandomScorer(4)(queries, 0, 200).numpy() - scores).max() > 0.5
    assert np.abs(RandomScorer(3)(queries, 200, 400).numpy() - scores).max() > 0.5
    best = np.bincount(scores.argmax(axis=1), minlength=293)
    assert best.max() <= 6  # 200 draws from 293
