"""Vocabularies of all features at once: which value has which id."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.beam.content import KEY
from data_prep.beam.entities import ROW
from data_prep.beam.filters import RANK
from data_prep.beam.join import CoShuffle, by_hash
from data_prep.beam.rank import GlobalRank, SortKeys
from data_prep.beam.tables import ShuffleByHash, join_tables
from data_prep.beam.totals import Facts
from data_prep.config import DataConfig
from data_prep.vocabulary import unknown_ids

FEATURE, VALUE, COUNT, OLD, PLACE, ID = "__feature", "value", "count", "__old", "__place", "__value_id"
VOCABULARY_SCHEMA = pa.schema([(FEATURE, pa.int32()), (VALUE, pa.string()), (COUNT, pa.int64()), (RANK, pa.int64())])
OLD_SCHEMA = pa.schema([(FEATURE, pa.int32()), (VALUE, pa.string()), (OLD, pa.int64())])
_NEW = 1 << 62  # behind every value of an old vocabulary
_KEYS = (FEATURE, VALUE)


@dataclass(frozen=True)
class Coded:
    """A feature with a vocabulary.

    Attributes:
      number: its place among all of them.
      name: its name.
      kind: `user` or `item`.
      column: where its values stand.
      many: whether these are lists.
      num_oov: out-of-vocabulary ids.
    """

    number: int
    name: str
    kind: str
    column: str
    many: bool
    num_oov: int


def coded_features(config: DataConfig) -> list[Coded]:
    """The ids of users and items, and their categorical features."""
    found: list[Coded] = []
    for kind, entity in (("user", config.users), ("item", config.items)):
        found.append(Coded(len(found), f"{kind}_id", kind, KEY, False, entity.num_oov))
        for feature in entity.features:
            if feature.type in ("categorical", "multi_categorical"):
                many = feature.type == "multi_categorical"
                found.append(Coded(len(found), feature.name, kind, feature.name, many, feature.num_oov))
    return found


def count_tokens(entities: pa.Table, features: Sequence[Coded]) -> pa.Table:
    """How often the values of features come, each entity counting once, and of the id how often it comes in train."""
    in_train = entities.filter(pc.greater(entities["__train"], 0))
    tables = []
    for feature in features:
        column = in_train[feature.column].combine_chunks()
        if feature.column == KEY:
            values, counts = column, in_train["__train"]
        else:
            counted = pc.value_counts(column.flatten() if feature.many else column)
            values, counts = counted.field("values"), counted.field("counts")
        tables.append(
            pa.table(
                [pa.repeat(pa.scalar(feature.number, pa.int32()), len(values)), values, counts], [FEATURE, VALUE, COUNT]
            )
        )
    counted = join_tables(tables)
    return counted.filter(pc.not_equal(counted[VALUE], ""))


class FitVocabularies(beam.PTransform):
    """Counted values → PCollection[pa.Table] of `VOCABULARY_SCHEMA`.

    Values stand by feature, those of the old dataset first, then by descending count and value.
    """

    def __init__(self, num_partitions: int, old: beam.PCollection | None) -> None:
        """Takes how many tables there are at most, and the values of an old dataset."""
        super().__init__()
        self._num_partitions, self._old = num_partitions, old

    def expand(self, counted: beam.PCollection) -> beam.PCollection:
        """Adds up, and ranks."""
        partition = by_hash(*_KEYS, num_partitions=self._num_partitions)
        if self._old is None:
            values = (
                counted
                | "Values" >> ShuffleByHash(_KEYS, self._num_partitions)
                | beam.Map(_known, None).with_output_types(pa.Table)
            )
        else:
            values = (counted, self._old) | "Old values" >> CoShuffle(partition, partition, _known)
        keys: SortKeys = [(FEATURE, "ascending"), (OLD, "ascending"), (COUNT, "descending"), (VALUE, "ascending")]
        return values | GlobalRank(keys, self._num_partitions, RANK) | beam.Map(_arranged)


def vocabulary_facts(vocabularies: pa.Table) -> Facts:
    """The number of values by feature."""
    counted = pc.value_counts(vocabularies[FEATURE].combine_chunks())
    return {
        f"values {number}": count
        for number, count in zip(*(part.to_pylist() for part in counted.flatten()), strict=True)
    }


def tokens_of(entities: pa.Table, features: Sequence[Coded]) -> Iterator[pa.Table]:
    """Each value of each feature, and where it stands: row and place in it."""
    rows = entities[ROW].to_numpy()
    for feature in features:
        column = entities[feature.column].combine_chunks()
        parents = np.arange(len(column))
        if feature.many:
            parents, column = pc.list_parent_indices(column).to_numpy(), column.flatten()
        starts = np.searchsorted(parents, parents)
        yield pa.table(
            {
                FEATURE: pa.repeat(pa.scalar(feature.number, pa.int32()), len(column)),
                VALUE: column,
                ROW: rows[parents],
                PLACE: np.arange(len(column)) - starts,
            }
        )


@dataclass(frozen=True)
class TokenIds:
    """Joins values with vocabularies.

    Attributes:
      features: by number.
      starts: the rank of the first value of each feature.
    """

    features: tuple[Coded, ...]
    starts: tuple[int, ...]

    def __call__(self, tokens: pa.Table | None, vocabularies: pa.Table | None) -> pa.Table | None:
        """The ids of values, in place of the values."""
        if tokens is None:
            return None
        parts = []
        for number in np.unique(tokens[FEATURE].to_numpy()):
            own = tokens.filter(pc.equal(tokens[FEATURE], int(number)))
            ids = self._ids(self.features[number], own[VALUE].combine_chunks(), vocabularies)
            parts.append(own.drop_columns([VALUE]).append_column(ID, pa.array(ids)))
        return join_tables(parts)

    def _ids(self, feature: Coded, values: pa.StringArray, vocabularies: pa.Table | None) -> np.ndarray:
        if vocabularies is None:
            return unknown_ids(values, feature.num_oov)
        known = vocabularies.filter(pc.equal(vocabularies[FEATURE], feature.number))
        place = pc.index_in(values, value_set=known[VALUE])
        ranks = pc.fill_null(known[RANK].take(place), 0).to_numpy()
        ids = (ranks - self.starts[feature.number] + 1 + feature.num_oov).astype(np.int32)
        unknown = place.is_null().to_numpy(zero_copy_only=False)
        ids[unknown] = unknown_ids(values.filter(pa.array(unknown)), feature.num_oov)
        return ids


def _known(counted: pa.Table | None, old: pa.Table | None) -> pa.Table | None:
    """Adds up counts; values of the old dataset stay although none may come."""
    if counted is None:
        counted = pa.table({name: pa.array([], VOCABULARY_SCHEMA.field(name).type) for name in (*_KEYS, COUNT)})
    counted = counted.group_by(list(_KEYS)).aggregate([(COUNT, "sum")])
    new = pa.table({
        FEATURE: counted[FEATURE], VALUE: counted[VALUE], COUNT: counted[f"{COUNT}_sum"],
        OLD: pa.repeat(_NEW, counted.num_rows),
    })  # fmt: skip
    if old is None:
        return new
    both = pa.concat_tables([new, old.append_column(COUNT, pa.repeat(0, old.num_rows)).select(new.column_names)])
    joined = both.group_by(list(_KEYS)).aggregate([(COUNT, "sum"), (OLD, "min")])
    return joined.select([*_KEYS, f"{COUNT}_sum", f"{OLD}_min"]).rename_columns([*_KEYS, COUNT, OLD])


def _arranged(table: pa.Table) -> pa.Table:
    return table.select(VOCABULARY_SCHEMA.names).cast(VOCABULARY_SCHEMA)


def features_of(kind: str, features: Sequence[Coded]) -> list[Coded]:
    """Those of users or of items."""
    return [feature for feature in features if feature.kind == kind]
