"""What users took, and where it stands among candidates, against sets and loops."""

import numpy as np
import pytest
import tensorflow as tf

from recsys.interactions import Interactions
from recsys.known_positives import KnownPositives, columns_of


def test_the_train_items_of_each_rows_user_are_found() -> None:
    """User 1 took nothing in train, user 3 nothing at all; a row of weight 0 is nobody's."""
    interactions = Interactions(
        user_row=np.array([0, 0, 0, 1, 2], np.int32),
        item_row=np.array([7, 5, 9, 5, 8], np.int32),
        timestamp=np.zeros(5, np.int64),
        split=np.array([0, 0, 1, 2, 0], np.int8),
        user_start=np.array([0, 3, 4, 5, 5]),
        num_items=10,
    )
    rows, weight = tf.constant([0, 1, 2, 2, 3, 0]), tf.constant([1, 0.5, 1, 0, 1, 2])
    found = KnownPositives(interactions).of(rows, weight)
    assert found.dtype == tf.int32
    assert found.to_list() == [[7, 5], [], [8], [], [], [7, 5]]


@pytest.mark.parametrize("seed", range(5))
def test_items_are_found_wherever_they_stand_among_candidates(seed: int) -> None:
    """Candidates repeat, and items come from below, within and beyond their range."""
    rng = np.random.default_rng(seed)
    candidates = rng.integers(5, 25, size=40).astype(np.int32)
    items = [rng.integers(30, size=rng.integers(6)).astype(np.int32).tolist() for _ in range(12)] + [[]]
    columns = tf.function(columns_of)(tf.ragged.constant(items, dtype=tf.int32), tf.constant(candidates))
    expected = [sorted(c for item in row for c in range(40) if candidates[c] == item) for row in items]
    assert [sorted(row) for row in columns.to_list()] == expected
