"""ScaNN indices with partitions and hashing, also over small catalogues."""

import math

import numpy as np
import numpy.typing as npt

from serving.index import Effort, ExactIndex, ReorderDtype, ScannIndex


def partitioned(
    candidates: npt.NDArray[np.float32],
    fraction_of_leaves: float,
    reorder_factor: float,
    leaves_per_sqrt_item: float = 1.0,
    reorder_dtype: ReorderDtype = "float32",
) -> ScannIndex:
    num_leaves = max(1, round(leaves_per_sqrt_item * math.sqrt(len(candidates))))
    can_hash = len(candidates) >= 16  # as many codes there are of a dimension
    index = ScannIndex(ExactIndex(candidates), num_leaves if can_hash else None, reorder_dtype)
    index.effort = Effort(max(1, math.ceil(fraction_of_leaves * num_leaves)), reorder_factor)
    return index
