"""Histories, blocks and shards of interactions."""

import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial, reduce
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from data_prep.beam.content import KEY
from data_prep.beam.entities import ROW
from data_prep.beam.join import CoShuffle, GroupByRange, by_hash
from data_prep.beam.ordered import publish
from data_prep.beam.totals import Facts, add_facts
from data_prep.sequences import Sequences, build_sequences
from data_prep.shards import Columns, Layout, block_columns, encode_block
from data_prep.statistics import Int64s, UserProfile, profile_users
from recsys.schema import SPLITS

_SHARDS_PER_SPLIT = 1 << 40
Part = tuple[int, int, Columns]


@dataclass(frozen=True)
class Shape:
    """How many users there are, how long a history is, and among how many tables work is divided at most."""

    num_users: int
    history_length: int
    num_partitions: int


class BuildSequences(beam.PTransform):
    """Split interactions, users and items → PCollection[(partition, Sequences)], partitions in the order of users."""

    def __init__(self, shape: Shape) -> None:
        """Takes the numbers."""
        super().__init__()
        self._shape = shape

    def expand(self, sides: Any) -> beam.PCollection:
        """Replaces ids by rows, and groups by user."""
        rows, *entities = sides
        shape = self._shape
        by_id = by_hash(KEY, num_partitions=shape.num_partitions)
        for kind, ranked in zip(("user", "item"), entities, strict=True):
            by_kind = by_hash(kind, num_partitions=shape.num_partitions)
            rows = (rows, ranked) | f"Rows of {kind}s" >> CoShuffle(by_kind, by_id, partial(_with_rows, kind=kind))
        return (
            rows
            | "Users" >> GroupByRange("user", shape.num_users, shape.num_partitions)
            | "Histories" >> beam.Map(_sequences, shape.history_length)
        )


class WriteShards(beam.PTransform):
    """PCollection[(partition, Sequences)] → PCollection[[split, shard, rows]], files lying at `shard_path`.

    Users stay whole; a block may have users of several partitions.
    """

    def __init__(self, layouts: Sequence[Layout], prefix: str) -> None:
        """Takes the layout of each split, and what paths begin with."""
        super().__init__()
        self._layouts, self._prefix = tuple(layouts), prefix

    def expand(self, sequences: beam.PCollection) -> beam.PCollection:
        """Facts, divides and writes."""
        sizes = sequences | "Sizes" >> beam.MapTuple(_sizes) | beam.CombineGlobally(add_facts)
        return (
            sequences
            | "Blocks" >> beam.FlatMap(_blocks, self._layouts, beam.pvalue.AsSingleton(sizes))
            | "Shards" >> beam.GroupByKey()
            | "Write" >> beam.Map(_write_shard, self._prefix)
        )


def shard_path(prefix: str, split: int, shard: int) -> str:
    """Where a worker leaves a shard."""
    return f"{prefix}-{split}-{shard:08d}"


class ProfileUsers(beam.PTransform):
    """PCollection[(partition, Sequences)] → PCollection of one dict that `profile_of` reads."""

    def __init__(self, edges: Int64s, history_length: int, test_start: int) -> None:
        """Takes what `profile_users` does."""
        super().__init__()
        self._arguments = edges, history_length, test_start

    def expand(self, sequences: beam.PCollection) -> beam.PCollection:
        """Adds up the profiles of all partitions."""
        return (
            sequences
            | beam.Map(_profile, *self._arguments)
            | beam.CombineGlobally(_add_profiles).without_defaults()
            | beam.Map(_as_lists)
        )


def profile_of(lists: dict[str, Any]) -> UserProfile:
    """Restores a profile."""
    return UserProfile(**{name: np.array(value, np.int64) for name, value in lists.items()})


def _with_rows(rows: pa.Table | None, entities: pa.Table | None, kind: str) -> pa.Table | None:
    if rows is None or entities is None:  # every interaction has an entity
        return None
    place = pc.index_in(rows[kind], value_set=entities[KEY])
    return rows.set_column(rows.column_names.index(kind), kind, entities[ROW].take(place).cast(pa.int32()))


def _sequences(keyed: tuple[int, pa.Table], history_length: int) -> tuple[int, Sequences]:
    partition, rows = keyed
    rows = rows.sort_by("position")
    column = {name: rows[name].to_numpy() for name in rows.column_names}
    return partition, build_sequences(
        column["user"],
        column["item"],
        column["timestamp"],
        column["split"],
        column.get("label"),
        column.get("weight"),
        history_length,
    )


def _sizes(partition: int, sequences: Sequences) -> Facts:
    counts = np.bincount(sequences.split, minlength=len(SPLITS)).tolist()
    return {f"{split} {partition}": count for split, count in enumerate(counts)}


def _blocks(keyed: tuple[int, Sequences], layouts: Sequence[Layout], sizes: Facts) -> Iterator[tuple[int, Part]]:
    """Yields the columns of each block, or of the part of it that has users of this partition, by split and shard."""
    partition, sequences = keyed
    for split, layout in enumerate(layouts):
        rows = np.flatnonzero(sequences.split == split)
        if not len(rows):
            continue
        offset = sum(sizes[f"{split} {before}"] for before in range(partition) if f"{split} {before}" in sizes)
        user = sequences.user_row[rows]
        new_user = np.r_[True, user[1:] != user[:-1]]
        first_rows = np.maximum.accumulate(np.where(new_user, np.arange(len(rows)), 0))
        blocks = layout.blocks(offset + first_rows)
        starts = np.flatnonzero(np.r_[True, blocks[1:] != blocks[:-1]])
        for start, end in zip(starts, np.r_[starts[1:], len(rows)], strict=True):
            shard = int(layout.shards(blocks[start]))
            columns = block_columns(sequences, rows[start:end])
            yield split * _SHARDS_PER_SPLIT + shard, (int(blocks[start]), partition, columns)


def _write_shard(keyed: tuple[int, Iterable[Part]], prefix: str) -> list[int]:
    key, parts = keyed
    split, shard = divmod(key, _SHARDS_PER_SPLIT)
    ordered = sorted(parts, key=operator.itemgetter(0, 1))
    publish(shard_path(prefix, split, shard), partial(_write_blocks, parts=ordered))
    return [split, shard, sum(len(columns["user_row"]) for _, _, columns in ordered)]


def _write_blocks(path: Path, parts: Sequence[Part]) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for block in sorted({block for block, _, _ in parts}):
            writer.write(encode_block(_merged([columns for number, _, columns in parts if number == block])))


def _merged(parts: Sequence[Columns]) -> Columns:
    """One block of the users of several; windows are on the values of all."""
    offsets = np.cumsum([0, *(len(part["history/values"]) for part in parts)])
    shifted = [
        part | {"history/starts": part["history/starts"] + offset} for part, offset in zip(parts, offsets, strict=False)
    ]
    return {name: np.concatenate([part[name] for part in shifted]) for name in shifted[0]}


def _profile(keyed: tuple[int, Sequences], edges: Any, history_length: int, test_start: int) -> UserProfile:
    return profile_users(keyed[1], edges, history_length, test_start)


def _add_profiles(profiles: Iterable[UserProfile]) -> UserProfile:
    return reduce(operator.add, profiles)


def _as_lists(profile: UserProfile) -> dict[str, Any]:
    return {field.name: getattr(profile, field.name).tolist() for field in fields(profile)}
