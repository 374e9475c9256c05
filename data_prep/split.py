"""Divides interactions in time."""

import math

import numpy as np
import numpy.typing as npt

from data_prep.config import SplitConfig
from recsys.errors import SourceError
from recsys.schema import SPLITS, SplitRule

_TIES = "rows with the timestamp of a cut all fall behind it"


def temporal_split(timestamps: npt.NDArray[np.int64], config: SplitConfig) -> tuple[npt.NDArray[np.int8], SplitRule]:
    """Puts the newest rows into test, those before them into validation, the rest into train.

    Args:
      timestamps: [num_rows] int64.
      config: the fractions.

    Returns:
      [num_rows] int8 positions in `SPLITS`, and the rule with its cut points.

    Raises:
      SourceError: a split would be empty, for example because all timestamps are equal.
    """
    ordered = np.sort(timestamps)
    test_start = _cut(ordered, config.test_fraction)
    validation_start = _cut(ordered, config.test_fraction + config.validation_fraction)
    split = (timestamps >= validation_start).astype(np.int8) + (timestamps >= test_start).astype(np.int8)
    sizes = np.bincount(split, minlength=len(SPLITS))
    if (sizes == 0).any():
        got = ", ".join(f"{name} {size}" for name, size in zip(SPLITS, sizes, strict=True))
        raise SourceError(f"the temporal split leaves a part empty ({got}): expected more rows or distinct timestamps")
    rule = SplitRule(
        rule=config.rule,
        validation_fraction=config.validation_fraction,
        test_fraction=config.test_fraction,
        validation_start=int(validation_start),
        test_start=int(test_start),
        ties=_TIES,
    )
    return split, rule


def _cut(ordered: npt.NDArray[np.int64], newest_fraction: float) -> np.int64:
    """The timestamp where the newest fraction begins; rounding keeps 10 rows · 0.3 from being 2.9999 rows."""
    first = math.floor(len(ordered) - round(newest_fraction * len(ordered), 6))
    return ordered[min(len(ordered) - 1, first)]
