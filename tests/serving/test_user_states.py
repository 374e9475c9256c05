"""The items of each user, by hand."""

import numpy as np
import tensorflow as tf

from recsys.interactions import Interactions
from serving.user_states import NoUserStates, UserStates


def test_items_are_found_by_user_oldest_first_and_none_for_minus_one() -> None:
    """User 0 took 5 then 2, user 1 nothing, user 2 took 5, 7, 1."""
    interactions = Interactions(
        user_row=np.array([0, 0, 2, 2, 2], np.int32),
        item_row=np.array([5, 2, 5, 7, 1], np.int32),
        timestamp=np.array([10, 20, 1, 2, 3], np.int64),
        split=np.array([0, 2, 0, 0, 1], np.int8),
        user_start=np.array([0, 2, 2, 5], np.int64),
        num_items=8,
    )
    items = UserStates(interactions).items(tf.constant([2, -1, 0, 1], tf.int64))
    assert items.dtype == tf.int32
    assert items.to_list() == [[5, 7, 1], [], [5, 2], []]


def test_where_nothing_is_to_be_known_there_are_no_items() -> None:
    items = NoUserStates().items(tf.constant([2, -1, 0], tf.int64))
    assert (items.dtype, items.to_list()) == (tf.int32, [[], [], []])
