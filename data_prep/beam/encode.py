"""Users and items as a dataset stores them: ids and numbers, in the order of rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from data_prep import features as f
from data_prep.beam.content import KEY
from data_prep.beam.entities import COUNTS, ROW
from data_prep.beam.join import CoShuffle, by_hash, by_range
from data_prep.beam.totals import Facts
from data_prep.beam.vocabularies import FEATURE, ID, PLACE, VALUE, Coded, TokenIds, tokens_of
from data_prep.config import EntityConfig, FeatureConfig
from data_prep.encode import Mask, circle_column, number_column, token_column
from data_prep.moments import Reading
from recsys.schema import NumericFit


@dataclass(frozen=True)
class EntityEncoder:
    """Joins the rows of some users or items with the ids of their values.

    Attributes:
      kind: `user` or `item`.
      config: the features.
      features: those with a vocabulary, the id first.
      fits: of numbers.
      readings: of timestamps.
    """

    kind: str
    config: EntityConfig
    features: tuple[Coded, ...]
    fits: dict[str, NumericFit]
    readings: dict[str, Reading]

    def __call__(self, entities: pa.Table | None, tokens: pa.Table | None) -> pa.Table | None:
        """Columns as `data_prep.encode` has them; then `COUNTS`, the row, and where each feature has a value."""
        if entities is None or tokens is None:  # each has a value of its id
            return None
        entities = entities.sort_by(ROW)
        tokens = tokens.sort_by([(FEATURE, "ascending"), (ROW, "ascending"), (PLACE, "ascending")])
        number, ids = tokens[FEATURE].to_numpy(), tokens[ID].to_numpy()
        ids_of = {feature.name: ids[number == feature.number] for feature in self.features}
        columns = {
            self.kind: entities[KEY],
            "train_count": entities["__train"],
            f"{self.kind}_id": pa.array(ids_of[f"{self.kind}_id"]),
        }
        present = {}
        for feature in self.config.features:
            columns[feature.name], present[_present(feature.name)] = self._column(
                feature, entities[feature.name].combine_chunks(), ids_of
            )
        columns |= {name: entities[name] for name in (f"show_{shown}" for shown in self.config.show)}
        columns |= {name: entities[name] for name in (ROW, *COUNTS)}
        return pa.table(columns | {name: pa.array(mask) for name, mask in present.items()})

    def _column(self, feature: FeatureConfig, column: pa.Array, ids_of: dict[str, np.ndarray]) -> tuple[pa.Array, Mask]:
        if feature.type == "timestamp":
            return circle_column(f.on_circles(column, feature, self.readings[feature.name]))
        if feature.type == "numeric":
            return number_column(column.to_numpy(zero_copy_only=False), self.fits[feature.name], feature)
        if feature.type == "categorical":
            return token_column(ids_of[feature.name], np.ones(len(column), np.int32), feature)
        lengths = column.value_lengths().to_numpy().astype(np.int32)
        ids = column.flatten().to_numpy() if feature.type == "text" else ids_of[feature.name]
        return token_column(ids, lengths, feature)


class EncodeEntities(beam.PTransform):
    """Entities and vocabularies → PCollection[pa.Table] of consecutive rows, as an `EntityEncoder` makes them."""

    def __init__(self, encoder: EntityEncoder, token_ids: TokenIds, num_entities: int, num_partitions: int) -> None:
        """Takes what is done, the number of entities, and how many tables there are at most."""
        super().__init__()
        self._encoder, self._token_ids = encoder, token_ids
        self._num_entities, self._num_partitions = num_entities, num_partitions

    def expand(self, sides: Any) -> beam.PCollection:
        """Brings values to their vocabularies, and their ids back to the rows."""
        entities, vocabularies = sides
        by_value = by_hash(FEATURE, VALUE, num_partitions=self._num_partitions)
        by_row = by_range(ROW, self._num_entities, self._num_partitions)
        tokens = entities | "Tokens" >> beam.FlatMap(tokens_of, self._encoder.features).with_output_types(pa.Table)
        ids = (tokens, vocabularies) | "Ids" >> CoShuffle(by_value, by_value, self._token_ids)
        return (entities, ids) | "Rows" >> CoShuffle(by_row, by_row, self._encoder)


def count_present(entities: pa.Table, names: Sequence[str]) -> Facts:
    """By feature, how many entities have a value."""
    return {f"present {name}": entities[_present(name)].to_numpy().sum().item() for name in names}


def stored_columns(entities: pa.Table) -> pa.Table:
    """Without what only the driver looks at."""
    return entities.select([name for name in entities.column_names if not name.startswith("__")])


def _present(name: str) -> str:
    return f"__present_{name}"
