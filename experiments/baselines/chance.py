"""Chance."""

import tensorflow as tf

from recsys.queries import Queries


class RandomScorer:
    """Scores drawn anew for each query that is asked, the same for one seed.

    `recsys.evaluation.evaluate` asks once what several queries ask alike: all events of a user without times share a
    ranking.
    """

    def __init__(self, seed: int) -> None:
        """Takes the seed."""
        self._seed = seed

    def __call__(self, queries: Queries, start: int, stop: int) -> tf.Tensor:
        """Returns [stop - start, num_items] float32."""
        return tf.random.stateless_uniform([stop - start, queries.num_items], [self._seed, start])
