"""Turns what workers have left into the files of a dataset, as a stream."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.beam.encode import stored_columns
from data_prep.beam.entities import COUNTS
from data_prep.beam.filters import RANK
from data_prep.beam.ordered import OrderedTables, fetch
from data_prep.beam.sequences import shard_path
from data_prep.beam.vocabularies import COUNT, FEATURE, VALUE, Coded
from data_prep.manifest import write_tables
from data_prep.shards import shard_name
from data_prep.statistics import EntityCounts, add_entity_counts
from recsys.artifacts import sha256_of
from recsys.schema import SPLITS, Shard


def write_entities(folder: Path, kind: str, entities: OrderedTables, listed: int | None) -> tuple[Shard, EntityCounts]:
    """Writes the table of users or items, and counts them on the way; holds one integer per item."""
    parts: list[EntityCounts] = []

    def stored() -> Iterator[pa.Table]:
        for table in entities:
            train, test, every = (table[column].to_numpy() for column in COUNTS)
            part = EntityCounts.of(train, test, every, listed=None)
            # Only the popularity of items is described.
            parts.append(part if kind == "item" else replace(part, train_descending=part.train_descending[:0]))
            yield stored_columns(table)

    schema = stored_columns(next(iter(entities))).schema
    shard = write_tables(folder, f"{kind}s/{kind}s.parquet", schema, stored())
    return shard, add_entity_counts(parts, listed)


def write_vocabularies(
    folder: Path, vocabularies: OrderedTables, features: Sequence[Coded], starts: Sequence[int]
) -> dict[str, Shard]:
    """Writes the vocabulary of each feature."""
    schema = pa.schema([(VALUE, pa.string()), ("id", pa.int32()), (COUNT, pa.int64())])
    return {
        feature.name: write_tables(
            folder,
            f"vocabulary/{feature.name}.parquet",
            schema,
            (_vocabulary(table, feature, start).cast(schema) for table in vocabularies),
        )
        for feature, start in zip(features, starts, strict=True)
    }


def write_refused(folder: Path, refused: dict[str, OrderedTables]) -> None:
    """Writes the refused rows of each table."""
    for name, tables in refused.items():
        rows = (table.drop_columns([RANK]) for table in tables)
        schema = next(iter(tables)).drop_columns([RANK]).schema
        write_tables(folder, f"quarantine/{name}.parquet", schema, rows)


def write_shards(folder: Path, prefix: str, shards: Sequence[Sequence[int]]) -> dict[str, tuple[Shard, ...]]:
    """Names the shards that workers wrote, `[split, shard, rows]` each, without gaps."""
    (folder / "interactions").mkdir()
    written: dict[str, tuple[Shard, ...]] = {}
    for number, split in enumerate(SPLITS):
        own = sorted((shard, rows) for part, shard, rows in shards if part == number)
        written[split] = ()
        for place, (shard, rows) in enumerate(own):
            name = shard_name(split, place, len(own))
            fetch(shard_path(prefix, number, shard), folder / name)
            written[split] += (Shard(name=name, num_rows=rows, sha256=sha256_of(folder / name)),)
    return written


def _vocabulary(table: pa.Table, feature: Coded, start: int) -> pa.Table:
    own = table.filter(pc.equal(table[FEATURE], feature.number))
    ids = own[RANK].to_numpy() - start + 1 + feature.num_oov
    return pa.table({VALUE: own[VALUE], "id": pa.array(ids.astype(np.int32)), COUNT: own[COUNT]})
