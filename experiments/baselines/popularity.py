"""Popularity, and popularity of late."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from experiments.baselines.past import items_before
from recsys.interactions import Interactions
from recsys.queries import Queries

# Chosen by validation on MovieLens latest-small among 0.005 … 0.4.
RECENT_FRACTION = 0.2


class PopularityScorer:
    """The same score for every query: how often each candidate was taken."""

    def __init__(self, counts: npt.NDArray[np.int64]) -> None:
        """Takes [num_items] counts."""
        self._scores = tf.constant(counts, tf.float32)

    def __call__(self, queries: Queries, start: int, stop: int) -> tf.Tensor:
        """Returns [stop - start, num_items] float32."""
        return tf.repeat(self._scores[tf.newaxis], stop - start, axis=0)


def popularity(interactions: Interactions, split: str) -> PopularityScorer:
    """Counts all interactions before `split`: train, and for test validation too."""
    return PopularityScorer(np.bincount(items_before(interactions, split), minlength=interactions.num_items))


def recent_popularity(interactions: Interactions, split: str, fraction: float = RECENT_FRACTION) -> PopularityScorer:
    """Counts the latest `fraction` of the interactions before `split`."""
    items = items_before(interactions, split)
    recent = items[len(items) - max(1, round(fraction * len(items))) :]
    return PopularityScorer(np.bincount(recent, minlength=interactions.num_items))
