"""Items drawn from the catalogue."""

import numpy as np
import pytest
import tensorflow as tf

from recsys.sampling import HardItems, PopularItems, UniformItems


def test_each_item_is_as_likely_as_any_other() -> None:
    """Chi-square of 200 draws of 500 items out of 50: mean 49, standard deviation 10."""
    tf.keras.utils.set_random_seed(0)
    items = UniformItems(500, 50)
    counts = sum(np.bincount(items.draw().numpy(), minlength=50) for _ in range(200))
    assert counts.sum() == 100_000
    assert ((counts - 2000) ** 2 / 2000).sum() < 49 + 4 * 10


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_popular_items_are_drawn_by_a_power_of_their_counts(power: float) -> None:
    """Chi-square of 200 draws of 500 items; what nobody took is never drawn, be it first, within or last."""
    tf.keras.utils.set_random_seed(0)
    train_counts = np.array([0, 100, 1, 0, 0, 9, 1000, 25, 4, 0])
    expected = train_counts**power / (train_counts**power).sum()
    items = PopularItems(500, train_counts, power)
    counts = sum(np.bincount(items.draw().numpy(), minlength=10) for _ in range(200))
    assert counts.sum() == 100_000
    taken = train_counts > 0
    assert not counts[~taken].any()
    deviation = (counts - 100_000 * expected)[taken] ** 2 / (100_000 * expected)[taken]
    assert deviation.sum() < 5 + 4 * np.sqrt(10)
    np.testing.assert_allclose(items.expected(tf.range(10)), 500 * expected, rtol=1e-6)


def test_uniform_items_are_expected_equally_often() -> None:
    np.testing.assert_allclose(UniformItems(30, 120).expected(tf.constant([0, 7, 119])), [0.25] * 3)


def test_each_call_draws_anew_in_a_graph_too() -> None:
    for items in (UniformItems(30, 1000), PopularItems(30, np.arange(1000), 0.75)):
        drawn = tf.function(items.draw)
        assert drawn().dtype == tf.int32
        assert set(drawn().numpy()) != set(drawn().numpy())


def test_hard_items_are_drawn_evenly_from_those_of_each_row_s_user() -> None:
    """Users 0 and 3; user 1 has fewer items than places, user 2 none at all."""
    tf.keras.utils.set_random_seed(0)
    items = HardItems(40, 4, 4)
    drawn = tf.function(items.draw)
    rows = tf.constant([3, 0, 1, 2, 3])
    assert drawn(rows).numpy().tolist() == [[-1] * 40] * 5
    items.fill(np.array([3, 0, 1], np.int32), np.array([[5, 6, 7, 8], [1, 2, 3, 4], [9, 0, -1, -1]], np.int32))
    found = np.concatenate([drawn(rows).numpy() for _ in range(50)], axis=1)
    assert found.dtype == np.int32
    for row, expected in zip(found, ([5, 6, 7, 8], [1, 2, 3, 4], [-1, -1, 0, 9], [-1], [5, 6, 7, 8]), strict=True):
        values, counts = np.unique(row, return_counts=True)
        assert set(values) == set(expected)
        share = np.array([expected.count(value) for value in values]) / len(expected)
        assert ((counts - 2000 * share) ** 2 / (2000 * share)).sum() < 3 + 4 * np.sqrt(6)
    assert (found[0] != found[4]).any()


def test_hard_items_that_are_filled_anew_forget_the_old_ones() -> None:
    items = HardItems(30, 2, 3)
    items.fill(np.array([0, 1], np.int32), np.array([[5, 6], [7, 8]], np.int32))
    items.fill(np.array([1], np.int32), np.array([[3, 4]], np.int32))
    found = items.draw(tf.constant([0, 1])).numpy()
    assert [set(row) for row in found.tolist()] == [{-1}, {3, 4}]
