"""Users and items: which there are, how often they come, and their rows in the catalogue."""

from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.beam.content import KEY, POSITION, content_schema, without_content
from data_prep.beam.join import CoShuffle, by_hash
from data_prep.beam.rank import GlobalRank
from data_prep.beam.tables import ShuffleByHash
from data_prep.config import EntityConfig
from data_prep.hashing import fingerprints
from data_prep.split import TEST, TRAIN

ROW = "__row"
COUNTS = ("__train", "__test", "__all")
_FINGERPRINT = "__fingerprint"


def entity_schema(config: EntityConfig) -> pa.Schema:
    """The row, the id, how often it comes in train, in test and at all, and the content columns."""
    content = content_schema(config)
    content = content.remove(content.get_field_index(POSITION))
    return pa.schema([(ROW, pa.int64()), *((name, pa.int64()) for name in COUNTS), *content])


@dataclass(frozen=True)
class _Known:
    config: EntityConfig

    def __call__(self, counted: pa.Table | None, known: pa.Table | None) -> pa.Table | None:
        """Joins counts and content; ids that have no interaction stay when they are listed."""
        if known is None:
            known = content_schema(self.config).empty_table()
        if counted is None:
            counted = pa.table({KEY: pa.array([], pa.string()), **{name: pa.array([], pa.int64()) for name in COUNTS}})
        unknown = counted[KEY].filter(pc.invert(pc.is_in(counted[KEY], value_set=known[KEY])))
        if self.config.source is None:
            known = known.filter(pc.is_in(known[KEY], value_set=counted[KEY]))
        every = pa.concat_tables([known, without_content(unknown.combine_chunks(), self.config)]).combine_chunks()
        place = pc.index_in(every[KEY], value_set=counted[KEY])
        for name in COUNTS:
            every = every.append_column(name, pc.fill_null(counted[name].take(place), 0))
        return every.drop_columns([POSITION]) if every.num_rows else None


class RankEntities(beam.PTransform):
    """Split interactions → PCollection[pa.Table] of `entity_schema`.

    A row is an id's place in the order of a seeded hash, as in `data_prep.hashing.order`.
    """

    def __init__(
        self, kind: str, config: EntityConfig, seed: int, num_partitions: int, known: beam.PCollection | None
    ) -> None:
        """Takes `user` or `item`, its configuration, a seed, how many tables there are at most, and content columns."""
        super().__init__()
        self._kind, self._config, self._seed, self._num_partitions = kind, config, seed, num_partitions
        self._known = known

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        """Counts, joins and ranks."""
        counted = (
            rows
            | "Count in part" >> beam.Map(_counted, self._kind)
            | "Bring together" >> ShuffleByHash([KEY], self._num_partitions)
            | "Count" >> beam.Map(_summed)
        )
        if self._known is None:
            entities = counted | "Without content" >> beam.Map(_Known(self._config), None).with_output_types(pa.Table)
        else:
            partition = by_hash(KEY, num_partitions=self._num_partitions)
            entities = (counted, self._known) | "Add content" >> CoShuffle(partition, partition, _Known(self._config))
        return (
            entities
            | "Fingerprint" >> beam.Map(_with_fingerprint, self._seed)
            | "Rank" >> GlobalRank([(_FINGERPRINT, "ascending"), (KEY, "ascending")], self._num_partitions, ROW)
            | "Arrange" >> beam.Map(_arranged, entity_schema(self._config))
        )


def _counted(rows: pa.Table, kind: str) -> pa.Table:
    split = rows["split"].to_numpy()
    flags = {"__train": split == TRAIN, "__test": split == TEST, "__all": np.ones(len(split), bool)}
    return _summed(pa.table({KEY: rows[kind], **{name: flag.astype(np.int64) for name, flag in flags.items()}}))


def _summed(table: pa.Table) -> pa.Table:
    summed = table.group_by(KEY).aggregate([(name, "sum") for name in COUNTS])
    return summed.select([KEY, *(f"{name}_sum" for name in COUNTS)]).rename_columns([KEY, *COUNTS])


def _with_fingerprint(table: pa.Table, seed: int) -> pa.Table:
    return table.append_column(_FINGERPRINT, pa.array(fingerprints(table[KEY].combine_chunks(), seed)))


def _arranged(table: pa.Table, schema: pa.Schema) -> pa.Table:
    return table.select(schema.names).cast(schema)
