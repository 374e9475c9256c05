"""ScaNN indices with partitions and hashing, also over small catalogues."""

import math

import numpy as np
import numpy.typing as npt

from recsys.config import IndexConfig
from serving.index import Effort, ExactIndex, ReorderDtype, ScannIndex


def partitioned(
    candidates: npt.NDArray[np.float32],
    fraction_of_leaves: float,
    reorder_factor: int,
    leaves_per_sqrt_item: float = 1.0,
    reorder_dtype: ReorderDtype = "float32",
) -> ScannIndex:
    config = IndexConfig(brute_force_below=16, leaves_per_sqrt_item=leaves_per_sqrt_item)
    index = ScannIndex(ExactIndex(candidates), config, reorder_dtype)
    index.effort = Effort(max(1, math.ceil(fraction_of_leaves * index.num_leaves)), reorder_factor)
    return index
