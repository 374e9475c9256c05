"""Content columns between source and dataset: read value by value, not yet turned into ids or fitted."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep import features as f
from data_prep.columns import as_text, one_array
from data_prep.config import EntityConfig, FeatureConfig
from data_prep.moments import to_seconds

KEY = "__id"
POSITION = "__position"
_TYPES = {
    "categorical": pa.string(),
    "multi_categorical": pa.list_(pa.string()),
    "text": pa.list_(pa.int32()),
    "numeric": pa.float64(),
    "timestamp": pa.string(),
}


def content_schema(config: EntityConfig) -> pa.Schema:
    """The id, where its row stood, and a column per feature and `show`."""
    fields = [(KEY, pa.string()), (POSITION, pa.int64())]
    fields += [(feature.name, _TYPES[feature.type]) for feature in config.features]
    return pa.schema([*fields, *((f"show_{name}", pa.string()) for name in config.show)])


def content_columns(table: pa.Table, config: EntityConfig) -> dict[str, pa.Array]:
    """Texts, tokens, hashed words and numbers of a source's rows."""
    columns = {feature.name: _column(one_array(table[feature.source_column]), feature) for feature in config.features}
    for name in config.show:
        columns[f"show_{name}"] = pc.fill_null(as_text(one_array(table[name]), name)[0], "")
    return columns


def content_table(ids: pa.StringArray, positions: Any, table: pa.Table, config: EntityConfig) -> pa.Table:
    """The content of ids, from their source's rows; of `content_schema`."""
    return pa.table({KEY: ids, POSITION: positions, **content_columns(table, config)}).cast(content_schema(config))


def without_content(ids: pa.StringArray, config: EntityConfig) -> pa.Table:
    """Rows of ids of which nothing is known."""
    length = len(ids)
    columns: dict[str, pa.Array] = {KEY: ids, POSITION: pa.nulls(length, pa.int64())}
    for feature in config.features:
        nothing: Any = {"categorical": "", "timestamp": None, "numeric": float("nan")}.get(feature.type, [])
        columns[feature.name] = pa.array([nothing] * length, _TYPES[feature.type])
    columns |= {f"show_{name}": pa.array([""] * length, pa.string()) for name in config.show}
    return pa.table(columns, schema=content_schema(config))


def _column(column: pa.Array, config: FeatureConfig) -> pa.Array:
    if config.type == "numeric":
        return pa.array(f.numbers_of(column, config))
    if config.type == "timestamp":
        return _moments(column, config.source_column)
    tokens = f.tokens_of(column, config)
    if config.type == "categorical":
        return pa.array([value for [value] in tokens], pa.string())
    listed = pa.array(tokens, pa.list_(pa.string()))
    if config.type == "multi_categorical":
        return listed
    ids = f.hashed(listed.values.to_numpy(zero_copy_only=False), config)
    return pa.ListArray.from_arrays(listed.offsets, pa.array(ids, pa.int32()))


def _moments(column: pa.Array, name: str) -> pa.StringArray:
    """Text as it is, and moments as seconds."""
    if not pa.types.is_temporal(column.type):
        return as_text(column, name)[0]
    seconds, unreadable, beyond = to_seconds(column, name, "iso8601")
    return pa.array(seconds, pa.int64(), mask=np.asarray(unreadable | beyond)).cast(pa.string())
