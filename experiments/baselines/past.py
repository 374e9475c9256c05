"""What baselines learn from: every interaction before the evaluated split, train and for test validation too."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recsys.interactions import Interactions
from recsys.queries import Queries
from recsys.schema import SPLITS


def items_before(interactions: Interactions, split: str) -> npt.NDArray[np.int32]:
    """Item rows of the interactions before a split, oldest first."""
    before = np.flatnonzero(interactions.split < SPLITS.index(split))
    return interactions.item_row[before[np.argsort(interactions.timestamp[before], kind="stable")]]


def matrix_before(interactions: Interactions, split: str) -> sp.csr_array:
    """[num_users, num_items] float32: 1 where the user took the item before the split."""
    before = interactions.split < SPLITS.index(split)
    shape = (len(interactions.user_start) - 1, interactions.num_items)
    return _binary(interactions.user_row[before], interactions.item_row[before], shape)


def seen_matrix(queries: Queries, start: int, stop: int, latest: int | None) -> sp.csr_array:
    """[stop - start, num_items] float32: 1 for the `latest` items that each query has seen; for all when None."""
    if latest is not None:
        queries = replace(queries, seen_start=np.maximum(queries.seen_start, queries.seen_end - latest))
    pairs = queries.seen_pairs(start, stop)
    return _binary(pairs[:, 0], pairs[:, 1], (stop - start, queries.num_items))


def _binary(row: npt.NDArray[np.integer], column: npt.NDArray[np.integer], shape: tuple[int, int]) -> sp.csr_array:
    """A matrix of ones, however often a pair comes."""
    matrix = sp.csr_array((np.ones(len(row), np.float32), (row, column)), shape=shape)
    matrix.data[:] = 1
    return matrix
