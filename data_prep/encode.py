"""Users and items: raw columns to integer features, a row per entity."""

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from data_prep.config import EntityConfig, FeatureConfig
from data_prep.hashing import bucket, order
from data_prep.vocabulary import Vocabulary, fit_vocabulary
from recsys.schema import Feature

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Entities:
    """An encoded user or item table.

    Attributes:
      table: the raw id, `train_count`, a column per feature and the `show_…` columns; a row per entity.
      features: their descriptions, the id first.
      vocabularies: by feature name.
      rows: the row of each raw id. Rows stand in the order of a hash, so that breaking ties by row favours nobody.
    """

    table: pa.Table
    features: tuple[Feature, ...]
    rows: "pd.Index[str]"
    vocabularies: dict[str, Vocabulary] = field(default_factory=dict)


def encode_entities(
    kind: str, raw: pd.DataFrame, train_ids: "pd.Series[str]", config: EntityConfig, seed: int
) -> Entities:
    """Encodes one row per user or item.

    Args:
      kind: `user` or `item`, which names the columns.
      raw: the source columns, indexed by distinct raw ids.
      train_ids: the raw id of every train interaction; vocabularies are fitted on these.
      config: the features.
      seed: of the hash that orders the rows.
    """
    raw = raw.iloc[order(raw.index.tolist(), seed)]
    ids = pd.Index(raw.index, dtype=object)
    id_vocabulary = fit_vocabulary(pd.Index(train_ids, dtype=object), config.num_oov)
    train_count = pd.Series(id_vocabulary.counts, id_vocabulary.values).reindex(ids, fill_value=0)
    columns: dict[str, Any] = {
        kind: pa.array(ids, pa.string()),
        "train_count": train_count.to_numpy(np.int64),
        f"{kind}_id": id_vocabulary.encode(ids),
    }
    id_feature = Feature(name=f"{kind}_id", type="id", num_ids=id_vocabulary.num_ids, num_oov=config.num_oov)
    features = [id_feature]
    vocabularies = {id_feature.name: id_vocabulary}
    in_train = train_count.to_numpy() > 0
    for feature_config in config.features:
        tokens = _tokens(raw[feature_config.source_column], feature_config)
        feature, vocabulary, encoded = _encode_feature(tokens, in_train, feature_config)
        columns[feature.name] = encoded
        features.append(feature)
        if vocabulary is not None:
            vocabularies[feature.name] = vocabulary
    for name in config.show:
        columns[f"show_{name}"] = pa.array([_shown(value) for value in raw[name]], pa.string())
    return Entities(pa.table(columns), tuple(features), ids, vocabularies)


def _encode_feature(
    tokens: list[list[str]], in_train: npt.NDArray[np.bool_], config: FeatureConfig
) -> tuple[Feature, Vocabulary | None, pa.Array | npt.NDArray[np.int32]]:
    lengths = [len(row) for row in tokens]
    flat = pd.Index([token for row in tokens for token in row], dtype=object)
    if config.type == "text":
        feature = Feature(
            name=config.name, type="text", num_ids=1 + config.num_buckets, num_oov=0, max_length=config.max_length
        )
        ids = (1 + bucket(flat.tolist(), config.num_buckets)).astype(np.int32)
        return feature, None, _lists(lengths, ids)
    vocabulary = fit_vocabulary(flat[np.repeat(in_train, lengths)], config.num_oov)
    ids = vocabulary.encode(flat)
    max_length = config.max_length if config.type == "multi_categorical" else 1
    feature = Feature(
        name=config.name,
        type=config.type,
        num_ids=vocabulary.num_ids,
        num_oov=config.num_oov,
        max_length=max_length,
    )
    return feature, vocabulary, _lists(lengths, ids) if feature.is_bag else ids


def _tokens(column: "pd.Series[Any]", config: FeatureConfig) -> list[list[str]]:
    """Divides each value into the tokens that get an id; a single-valued feature has exactly one, perhaps empty."""
    if config.type == "categorical":
        return [[_shown(value)] for value in column]
    if config.type == "text":
        return [_WORD.findall(_shown(value).lower())[: config.max_length] for value in column]
    return [_parts(value, config.separator)[: config.max_length] for value in column]


def _parts(value: Any, separator: str | None) -> list[str]:
    if isinstance(value, (list, tuple, np.ndarray)):
        return [str(part) for part in value if _shown(part)]
    parts = [_shown(value)] if separator is None else _shown(value).split(separator)
    return [part for part in parts if part]


def _shown(value: Any) -> str:
    return "" if value is None or (isinstance(value, float) and np.isnan(value)) else str(value)


def _lists(lengths: list[int], ids: npt.NDArray[np.int32]) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids, pa.int32()))
