"""Users and items: raw columns to integer and float features, a row per entity."""

from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data_prep import features as f
from data_prep.columns import as_text, one_array
from data_prep.config import EntityConfig, FeatureConfig
from data_prep.extend import OldDataset
from data_prep.hashing import order
from data_prep.vocabulary import Vocabulary, count_values, fit_vocabulary
from recsys.schema import Feature, NumericFit

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass
class Entities:
    """An encoded user or item table.

    Attributes:
      table: the raw id, `train_count`, a column per feature and the `show_…` columns; a row per entity. Rows stand in
        the order of a hash, so that breaking ties by row favours nobody.
      row: [num_entities] int32, the row of each id in the order in which they were given.
      features: their descriptions, the id first.
      vocabularies, numeric_fits: by feature name.
      coverage: by feature name the share of rows that have a value.
    """

    table: pa.Table
    row: npt.NDArray[np.int32]
    features: list[Feature]
    vocabularies: dict[str, Vocabulary] = field(default_factory=dict)
    numeric_fits: dict[str, NumericFit] = field(default_factory=dict)
    coverage: dict[str, float] = field(default_factory=dict)


def encode_entities(
    kind: str,
    ids: pa.StringArray,
    raw: pa.Table,
    train_count: Int64s,
    config: EntityConfig,
    seed: int,
    old: OldDataset | None = None,
) -> Entities:
    """Encodes one row per user or item.

    Args:
      kind: `user` or `item`, which names the columns.
      ids: distinct raw ids.
      raw: their source columns, in the same order; null where nothing is known.
      train_count: [len(ids)] int64, their train interactions; what is fitted is fitted on those that have some.
      config: the features.
      seed: of the hash that orders the rows.
      old: the dataset that is extended, whose ids and fits are kept.
    """
    by_hash = order(ids, seed)
    row = np.empty(len(ids), dtype=np.int32)
    row[by_hash] = np.arange(len(ids), dtype=np.int32)
    ids, raw, train_count = ids.take(pa.array(by_hash)), raw.take(pa.array(by_hash)), train_count[by_hash]
    name = f"{kind}_id"
    vocabulary = fit_vocabulary(ids, train_count, config.num_oov, _old_values(old, name))
    feature = Feature(name=name, type="id", num_ids=vocabulary.num_ids, num_oov=config.num_oov)
    columns = {kind: ids, "train_count": train_count, name: vocabulary.encode(ids)}
    encoded = Entities(pa.table(columns), row, [feature], {name: vocabulary})
    for feature_config in config.features:
        column = one_array(raw[feature_config.source_column])
        _add_feature(encoded, column, train_count > 0, feature_config, old)
    for shown in config.show:
        text, _ = as_text(one_array(raw[shown]), shown)
        encoded.table = encoded.table.append_column(f"show_{shown}", pc.fill_null(text, ""))
    return encoded


@dataclass(frozen=True)
class _Encoded:
    """One feature's column, where it has a value, and what was fitted for it."""

    values: pa.Array
    present: Mask
    fit: NumericFit | None = None
    vocabulary: Vocabulary | None = None


def _add_feature(
    encoded: Entities, column: pa.Array, in_train: Mask, config: FeatureConfig, old: OldDataset | None
) -> None:
    """Adds one feature's column, its description and what was fitted for it."""
    added = _encode(column, in_train, config, old)
    num_values = num_boundaries = 0
    if added.fit is not None:
        encoded.numeric_fits[config.name] = added.fit
        num_boundaries = len(added.fit.boundaries)
    if added.vocabulary is not None:
        encoded.vocabularies[config.name] = added.vocabulary
        num_values = len(added.vocabulary.values)
    encoded.features.append(f.describe(config, num_values, num_boundaries))
    encoded.table = encoded.table.append_column(config.name, added.values)
    encoded.coverage[config.name] = float(np.mean(added.present))


def _encode(column: pa.Array, in_train: Mask, config: FeatureConfig, old: OldDataset | None) -> _Encoded:
    if config.type == "timestamp":
        return _Encoded(*circle_column(f.on_circles(column, config)))
    if config.type == "numeric":
        return _encode_numbers(column, in_train, config, None if old is None else old.numeric_fit(config.name))
    if config.type == "text":
        return _encode_words(column, config)
    return _encode_categories(column, in_train, config, _old_values(old, config.name))


def _encode_numbers(column: pa.Array, in_train: Mask, config: FeatureConfig, old_fit: NumericFit | None) -> _Encoded:
    numbers = f.numbers_of(column, config)
    fit = f.fit_numeric(numbers[in_train], config) if old_fit is None else old_fit
    return _Encoded(*number_column(numbers, fit, config), fit=fit)


def _encode_words(column: pa.Array, config: FeatureConfig) -> _Encoded:
    words, lengths = _flat_tokens(column, config)
    return _Encoded(*token_column(f.hashed(words.to_numpy(zero_copy_only=False), config), lengths, config))


def _encode_categories(
    column: pa.Array, in_train: Mask, config: FeatureConfig, old_values: pa.StringArray | None
) -> _Encoded:
    tokens, lengths = _flat_tokens(column, config)
    counted = count_values(tokens.filter(pa.array(np.repeat(in_train, lengths))))
    vocabulary = fit_vocabulary(*counted, config.num_oov, old_values)
    return _Encoded(*token_column(vocabulary.encode(tokens), lengths, config), vocabulary=vocabulary)


def _flat_tokens(column: pa.Array, config: FeatureConfig) -> tuple[pa.StringArray, Int32s]:
    """The tokens of all rows in one run, and [num_rows] int32: how many each row has."""
    tokens = f.tokens_of(column, config)
    return pa.array(chain.from_iterable(tokens), pa.string()), np.array([len(row) for row in tokens], np.int32)


def circle_column(circles: f.Float32s) -> tuple[pa.Array, Mask]:
    """A timestamp's column of [num_rows, 4] float32, and [num_rows] bool: where there is a value."""
    return pa.FixedSizeListArray.from_arrays(circles.ravel(), 4), np.asarray(circles.any(axis=1))


def number_column(numbers: f.Floats, fit: NumericFit, config: FeatureConfig) -> tuple[pa.Array, Mask]:
    """A number's column, standardized or in buckets, and [num_rows] bool: where there is a value."""
    values = f.standardized(numbers, fit) if config.quantiles is None else f.bucketized(numbers, fit)
    return pa.array(values), ~np.isnan(numbers)


def token_column(ids: Int32s, lengths: Int32s, config: FeatureConfig) -> tuple[pa.Array, Mask]:
    """A column of the ids of all rows' tokens, and [num_rows] bool: where there is a value.

    Args:
      ids: [num_tokens] int32, row after row.
      lengths: [num_rows] int32, how many tokens each row has.
      config: the feature.
    """
    if config.type == "categorical":
        return pa.array(ids), ids != 0
    return _lists(lengths, ids), lengths > 0


def _old_values(old: OldDataset | None, feature: str) -> pa.StringArray | None:
    return None if old is None else old.values(feature)


def _lists(lengths: Int32s, ids: Int32s) -> pa.Array:
    offsets = np.r_[0, np.cumsum(lengths)].astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids, pa.int32()))
