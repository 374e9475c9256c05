"""EASE^R: a linear item-item model in closed form."""

import numpy as np
import scipy.sparse as sp
from scipy.linalg import lapack

from experiments.baselines.fold_in import Floats

# Three matrices of so many squared floats, 5 GB, and some minutes on a few cores.
MAX_ITEMS = 20_000


class Ease:
    """Scores X B, where B minimizes |X - X B|² + l2 |B|² with a zero diagonal.

    B_ij = -P_ij / P_jj for i ≠ j, with P = (XᵀX + l2 I)⁻¹.

    Source: Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", 2019.
    """

    def __init__(self, taken: sp.csr_array, l2: float) -> None:
        """Inverts the dense [num_items, num_items] Gram matrix.

        Args:
          taken: [num_users, num_items] float32 ones.
          l2: above 0.
        """
        gram = (taken.T @ taken).toarray()
        gram[np.diag_indices_from(gram)] += l2
        # The matrix is symmetric: its transpose has the order that LAPACK can overwrite.
        factor, failed = lapack.spotrf(gram.T, lower=True, overwrite_a=True)
        if failed:
            raise ValueError(f"the Gram matrix with l2 = {l2} is not positive definite: expected a larger l2")
        inverse, _ = lapack.spotri(factor, lower=True, overwrite_c=True)
        weights = np.tril(inverse)
        weights += np.tril(inverse, -1).T
        weights /= -np.diag(weights)
        np.fill_diagonal(weights, 0)
        self._weights = np.ascontiguousarray(weights)

    def __call__(self, seen: sp.csr_array) -> Floats:
        """Returns [batch, num_items] float32 scores for [batch, num_items] float32 ones where an item was seen."""
        return np.asarray(seen @ self._weights)
