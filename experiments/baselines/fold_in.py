"""Linear models of items, folded in: a query is answered from the items it has seen, whoever asks."""

from typing import Protocol

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import tensorflow as tf

from experiments.baselines.past import seen_matrix
from recsys.evaluation import Scorer
from recsys.queries import Queries

Floats = npt.NDArray[np.float32]


class FoldIn(Protocol):
    """A model that scores candidates by what was seen."""

    def __call__(self, seen: sp.csr_array) -> Floats:
        """Returns [batch, num_items] float32 scores for [batch, num_items] float32 ones where an item was seen."""


class FoldInScorer:
    """Scores by the latest seen items; where nothing was seen, or nothing is known of it, another scorer answers."""

    def __init__(self, model: FoldIn, latest: int | None, otherwise: Scorer) -> None:
        """Takes the model, how many of the latest seen items it is shown (all for None), and the other scorer."""
        self._model, self._latest, self._otherwise = model, latest, otherwise

    def __call__(self, queries: Queries, start: int, stop: int) -> tf.Tensor:
        """Returns [stop - start, num_items] float32."""
        scores = self._model(seen_matrix(queries, start, stop, self._latest))
        silent = np.asarray(~scores.any(axis=1))
        if not silent.any():
            return tf.constant(scores)
        return tf.where(silent[:, np.newaxis], self._otherwise(queries, start, stop), scores)
