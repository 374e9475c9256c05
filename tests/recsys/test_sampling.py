"""Items drawn from the catalogue."""

import numpy as np
import pytest
import tensorflow as tf

from recsys.sampling import PopularItems, UniformItems


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
