"""Items drawn from the catalogue."""

import numpy as np
import tensorflow as tf

from recsys.sampling import UniformItems


def test_each_item_is_as_likely_as_any_other() -> None:
    """Chi-square of 200 draws of 500 items out of 50: mean 49, standard deviation 10."""
    tf.keras.utils.set_random_seed(0)
    items = UniformItems(500, 50)
    counts = sum(np.bincount(items.draw().numpy(), minlength=50) for _ in range(200))
    assert counts.sum() == 100_000
    assert ((counts - 2000) ** 2 / 2000).sum() < 49 + 4 * 10


def test_each_call_draws_anew_in_a_graph_too() -> None:
    drawn = tf.function(UniformItems(30, 1000).draw)
    assert drawn().dtype == tf.int32
    assert set(drawn().numpy()) != set(drawn().numpy())
