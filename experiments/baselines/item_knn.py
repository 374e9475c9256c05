"""Item-kNN: a candidate is scored by its similarity to what was seen."""

import numpy as np
import scipy.sparse as sp

from experiments.baselines.fold_in import Floats

_ITEMS_AT_ONCE = 1024


class ItemKnn:
    """The sum of a candidate's similarities to those seen items that are among its most similar ones.

    The similarity of two items that c users have in common, and a and b users took, is the shrunk cosine
    c / (sqrt(a b) + shrink).

    Source: Deshpande and Karypis, "Item-Based Top-N Recommendation Algorithms", 2004; the shrinkage as in Ferrari
    Dacrema et al., "Are We Really Making Much Progress?", 2019.
    """

    def __init__(self, taken: sp.csr_array, neighbours: int, shrink: float) -> None:
        """Finds each item's nearest ones.

        Args:
          taken: [num_users, num_items] float32 ones.
          neighbours: how many similar items are kept of each candidate; of equal ones the lower rows.
          shrink: what lowers the similarity of items with few users.
        """
        columns = taken.tocsc()
        blocks = [
            _nearest(columns, start, min(start + _ITEMS_AT_ONCE, taken.shape[1]), neighbours, shrink)
            for start in range(0, taken.shape[1], _ITEMS_AT_ONCE)
        ]
        # Row: what was seen; column: the candidate.
        self._similarity = sp.vstack(blocks, format="csr").T.tocsr()

    def __call__(self, seen: sp.csr_array) -> Floats:
        """Returns [batch, num_items] float32 scores for [batch, num_items] float32 ones where an item was seen."""
        return np.asarray((seen @ self._similarity).toarray())


def _nearest(taken: sp.csc_array, start: int, stop: int, neighbours: int, shrink: float) -> sp.csr_array:
    """[stop - start, num_items]: the similarities of items `start` … `stop - 1` to their nearest ones."""
    common = (taken[:, start:stop].T @ taken).tocoo()
    other, item = common.col, common.row
    apart = other != item + start
    norm = np.sqrt(taken.sum(axis=0))
    item, other = item[apart], other[apart]
    similarity = common.data[apart] / (norm[item + start] * norm[other] + shrink)
    order = np.lexsort((other, -similarity, item))
    place = np.arange(len(order)) - np.searchsorted(item[order], item[order])
    kept = order[place < neighbours]
    return sp.csr_array((similarity[kept].astype(np.float32), (item[kept], other[kept])), shape=common.shape)
