"""Implicit ALS, by the package `implicit` of the extra `bench`."""

import numpy as np
import scipy.sparse as sp

from experiments.baselines.fold_in import Floats


class ImplicitAls:
    """Matrix factorization by weighted alternating least squares; queries are folded in as users are solved for.

    Source: Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", 2008.
    """

    def __init__(
        self, taken: sp.csr_array, factors: int, regularization: float, alpha: float, iterations: int, seed: int
    ) -> None:
        """Factorizes the matrix.

        Args:
          taken: [num_users, num_items] float32 ones.
          factors: the width of both embeddings.
          regularization: of both.
          alpha: the confidence in what was taken; in what was not it is 1.
          iterations: over users and items.
          seed: of the initial factors.
        """
        from implicit.als import AlternatingLeastSquares
        from threadpoolctl import threadpool_limits

        # It runs threads of its own, which BLAS threads inside of them would slow down.
        with threadpool_limits(1, "blas"):
            self._model = AlternatingLeastSquares(
                factors=factors,
                regularization=regularization,
                alpha=alpha,
                iterations=iterations,
                random_state=seed,
                use_gpu=False,
            )
            self._model.fit(sp.csr_matrix(taken), show_progress=False)

    @property
    def item_embeddings(self) -> Floats:
        """[num_items, factors] float32."""
        return np.asarray(self._model.item_factors)

    def __call__(self, seen: sp.csr_array) -> Floats:
        """Returns [batch, num_items] float32 scores for [batch, num_items] float32 ones where an item was seen."""
        users = self._model.recalculate_user(np.arange(seen.shape[0]), sp.csr_matrix(seen))
        return np.asarray(users @ self.item_embeddings.T)
