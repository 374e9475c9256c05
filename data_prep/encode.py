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


def _add_feature(
    encoded: Entities,
    column: pa.Array,
    in_train: npt.NDArray[np.bool_],
    config: FeatureConfig,
    old: OldDataset | None,
) -> None:
    """Adds one feature's column, its description and what was fitted for it."""
    num_values = num_boundaries = 0
    if config.type == "timestamp":
        values, present = circle_column(f.on_circles(column, config))
    elif config.type == "numeric":
        numbers = f.numbers_of(column, config)
        fit = (old and old.numeric_fit(config.name)) or f.fit_numeric(numbers[in_train], config)
        encoded.numeric_fits[config.name] = fit
        num_boundaries = len(fit.boundaries)
        values, present = number_column(numbers, fit, config)
    else:
        tokens = f.tokens_of(column, config)
        lengths = np.array([len(row) for row in tokens], np.int32)
        flat = pa.array(chain.from_iterable(tokens), pa.string())
        if config.type == "text":
            ids = f.hashed(flat.to_numpy(zero_copy_only=False), config)
        else:
            counted = count_values(flat.filter(pa.array(np.repeat(in_train, lengths))))
            vocabulary = fit_vocabulary(*counted, config.num_oov, _old_values(old, config.name))
            encoded.vocabularies[config.name] = vocabulary
            num_values, ids = len(vocabulary.values), vocabulary.encode(flat)
        values, present = token_column(ids, lengths, config)
    encoded.features.append(f.describe(config, num_values, num_boundaries))
    encoded.table = encoded.table.append_column(config.name, values)
    encoded.coverage[config.name] = float(np.mean(present))


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
