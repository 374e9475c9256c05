"""The query tower in operations that every runtime has, with tables in float32 or in int8."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from recsys.config import ModelConfig, RuntimeConfig
from recsys.dataset import Features
from recsys.embeddings import EmbeddingTable
from recsys.schema import Schema
from recsys.towers import Towers, build_towers

# What XLA can compile, others can convert: there are only gathers and sums of static shapes.
_STATIC_SHAPES = RuntimeConfig(xla=True)
_LARGEST_INT8 = 127
# float32 holds integers up to it exactly.
_LARGEST_SCALE = 2**24


def portable_query_tower(towers: Towers, schema: Schema, config: ModelConfig, items: Features) -> tf.keras.Model:
    """Builds the query tower anew, with the same weights.

    Args:
      towers: whose.
      schema: what they were built from.
      config: likewise.
      items: likewise, the catalogue's features.
    """
    query = build_towers(schema, config, items, _STATIC_SHAPES).query
    query.set_weights(towers.query.get_weights())
    return query


def round_tables(tower: tf.keras.Model) -> None:
    """Makes a tower keep its embedding tables as int8 numbers, a byte each, with a scale for every row.

    TFLite's own quantization has one scale for a whole table, by its largest number: rare values, whose rows are short,
    would keep two or three bits.
    """
    for layer in tower.submodules:
        if isinstance(layer, EmbeddingTable):
            layer.read = _Int8Rows(layer.table.numpy())


class _Int8Rows:
    """Reads rows of a table that was rounded: int32 ids of any shape → [..., embedding_dim] float32."""

    def __init__(self, table: npt.NDArray[np.float32]) -> None:
        # Rows of zeros have some scale, too.
        scales = np.maximum(np.abs(table).max(axis=1), np.finfo(np.float32).tiny) / _LARGEST_INT8
        self._rows = np.rint(table / scales[:, np.newaxis]).astype(np.int8)
        # As integers: TFLite would quantize floats.
        self._unit = float(scales.max()) / _LARGEST_SCALE
        self._scales = np.rint(scales / self._unit).astype(np.int32)

    def __call__(self, ids: tf.Tensor) -> tf.Tensor:
        scales = tf.cast(tf.gather(self._scales, ids), tf.float32) * self._unit
        return tf.cast(tf.gather(self._rows, ids), tf.float32) * scales[..., tf.newaxis]
