"""Content features: raw values to tokens or numbers, and what is fitted on users and items with a train interaction."""

import math
import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.columns import as_numbers, as_text
from data_prep.config import FeatureConfig
from data_prep.hashing import bucket
from data_prep.moments import Reading, count_moments, read_moments
from recsys.errors import SourceError
from recsys.schema import Feature, NumericFit

_WORD = re.compile(r"\w+")
_DAY_SECONDS = 86_400
_MONDAY = 4 * _DAY_SECONDS  # 1970 began on a Thursday

Floats = npt.NDArray[np.float64]
Float32s = npt.NDArray[np.float32]


def describe(config: FeatureConfig, num_values: int, num_boundaries: int) -> Feature:
    """The feature as the towers see it.

    Args:
      config: the feature.
      num_values: known values of a categorical feature.
      num_boundaries: between the buckets of a number.
    """
    read = {"column": config.source_column, "separator": config.separator, "max_ngram": config.max_ngram}
    return _described(config, num_values, num_boundaries).model_copy(update=read)


def _described(config: FeatureConfig, num_values: int, num_boundaries: int) -> Feature:
    if config.type == "text":
        return Feature(
            name=config.name, type="text", num_ids=1 + config.num_buckets, num_oov=0, max_length=config.max_length
        )
    if config.type == "numeric" and config.quantiles is not None:
        return Feature(name=config.name, type="bucketized", num_ids=2 + num_boundaries, num_oov=0)
    if config.type == "numeric" or config.type == "timestamp":
        return Feature(
            name=config.name, type=config.type, num_ids=0, num_oov=0, max_length=4 if config.type == "timestamp" else 1
        )
    return Feature(
        name=config.name,
        type=config.type,
        num_ids=1 + config.num_oov + num_values,
        num_oov=config.num_oov,
        max_length=config.max_length if config.type == "multi_categorical" else 1,
    )


def tokens_of(column: pa.Array, config: FeatureConfig) -> list[list[str]]:
    """Divides each value into the tokens that get an id; a single-valued feature has exactly one, perhaps empty.

    Raises:
      SourceError: the column holds records.
    """
    if config.type == "multi_categorical":
        if pa.types.is_nested(column.type):
            return [parts[: config.max_length] for parts in _listed(column, config.source_column)]
        return [_parts(value, config.separator)[: config.max_length] for value in _texts(column, config)]
    if config.type == "text":
        return [_ngrams(_WORD.findall(value.lower()), config)[: config.max_length] for value in _texts(column, config)]
    return [[value] for value in _texts(column, config)]


def hashed(tokens: Sequence[str], config: FeatureConfig) -> npt.NDArray[np.int32]:
    """The ids of words: 1 … `num_buckets`."""
    return (1 + bucket(tokens, config.num_buckets)).astype(np.int32)


def numbers_of(column: pa.Array, config: FeatureConfig) -> Floats:
    """[num_rows] float64, NaN where there is none."""
    return as_numbers(column, config.source_column)[0]


def fit_numeric(values: Floats, config: FeatureConfig) -> NumericFit:
    """Learns the mean and standard deviation, or the boundaries of `quantiles` equal buckets, of what is no NaN."""
    present = np.sort(present_numbers(values))
    if config.quantiles is not None:
        ranks = quantile_ranks(len(present), config.quantiles)
        return bucket_fit([float(value) for value in present[ranks]], config.quantiles)
    if not len(present):
        return NumericFit()
    # Correctly rounded sums do not depend on the order of rows.
    mean = math.fsum(present) / len(present)
    return standard_fit(mean, math.fsum((present - mean) ** 2) / len(present))


def bucket_fit(boundaries: Sequence[float], quantiles: int) -> NumericFit:
    """What divides numbers into buckets."""
    return NumericFit(quantiles=quantiles, boundaries=tuple(sorted(set(boundaries))))


def present_numbers(values: Floats) -> Floats:
    """What is no NaN; 0 for -0, which sorts like it."""
    return values[~np.isnan(values)] + 0.0


def standard_fit(mean: float, variance: float) -> NumericFit:
    """What standardizes numbers; equal ones become 0."""
    deviation = math.sqrt(variance)
    # What is smaller is the rounding of equal values.
    return NumericFit(mean=mean, standard_deviation=deviation if deviation > 1e-12 * abs(mean) else 1.0)


def quantile_ranks(num_values: int, quantiles: int) -> list[int]:
    """The ranks of the values at which a new bucket begins."""
    return [number * num_values // quantiles for number in range(1, quantiles)] if num_values else []


def standardized(values: Floats, fit: NumericFit) -> Float32s:
    """[num_rows] float32 of mean 0 and standard deviation 1 over what was fitted; a missing value is the mean."""
    largest = np.finfo(np.float32).max
    return np.nan_to_num((values - fit.mean) / fit.standard_deviation).clip(-largest, largest).astype(np.float32)


def bucketized(values: Floats, fit: NumericFit) -> npt.NDArray[np.int32]:
    """[num_rows] int32 ids: 0 where there is no value, else 1 + the number of boundaries that are not above it."""
    bucket_of = 1 + np.searchsorted(np.asarray(fit.boundaries), values, side="right")
    return np.where(np.isnan(values), 0, bucket_of).astype(np.int32)


def on_circles(column: pa.Array, config: FeatureConfig, reading: Reading | None = None) -> Float32s:
    """[num_rows, 4] float32: sine and cosine of the time of day and of the day of the week, UTC; 0 where missing.

    Args:
      column: moments.
      config: the feature.
      reading: how they are written; as the column tells when absent.
    """
    name = config.source_column
    reading = Reading.by(count_moments(column, name)) if reading is None else reading
    seconds, missing = read_moments(column, name, reading)
    day = 2 * np.pi * (seconds % _DAY_SECONDS) / _DAY_SECONDS
    week = 2 * np.pi * ((seconds - _MONDAY) // _DAY_SECONDS % 7) / 7
    circles = np.stack([np.sin(day), np.cos(day), np.sin(week), np.cos(week)], axis=1)
    return np.where(missing[:, None], 0, circles).astype(np.float32)


def _texts(column: pa.Array, config: FeatureConfig) -> list[str]:
    text, _ = as_text(column, config.source_column)
    return ["" if value is None else value for value in text.to_pylist()]


def _ngrams(words: list[str], config: FeatureConfig) -> list[str]:
    """All words, then all pairs of neighbours, and so on."""
    return [
        " ".join(words[start : start + size])
        for size in range(1, config.max_ngram + 1)
        for start in range(len(words) - size + 1)
    ]


def _listed(column: pa.Array, name: str) -> list[list[str]]:
    """The values of each row as texts, without those that are missing."""
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise SourceError(f"column {name} holds {kind}: expected a list or text")
    values = as_text(column.flatten(), name)[0].to_pylist()
    ends = np.cumsum(pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)).tolist()
    return [[value for value in values[start:end] if value] for start, end in pairwise([0, *ends])]


def _parts(value: str, separator: str | None) -> list[str]:
    parts = [value] if separator is None else value.split(separator)
    return [part for part in parts if part]
