"""Opens and reads the tables that a data.toml names: interactions, and users and items of their own."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.columns import one_array
from data_prep.config import DataConfig, EntityConfig
from data_prep.events import EventBatch, unified
from data_prep.moments import Format, guess_format
from data_prep.sources import RawBatch, Source, head, open_source, read_source
from data_prep.split import POSITIONS_PER_SPLIT, TEST
from data_prep.threads import in_threads
from data_prep.validate import (
    Quarantine,
    ValidBatch,
    refuse_repeated,
    validate_entities,
    validate_interactions,
)


@dataclass(frozen=True)
class Tables:
    """The opened sources of a data.toml.

    Attributes:
      sources: by name: `interactions`, and where they are of their own `test`, `users` and `items`.
      timestamp_format: how the interactions' timestamps are read.
    """

    sources: dict[str, Source]
    timestamp_format: Format


@dataclass(frozen=True)
class RawEntities:
    """Users or items as they came: distinct raw ids, and the source columns of each."""

    ids: pa.StringArray
    table: pa.Table

    def of(self, ids: pa.StringArray) -> pa.Table:
        """The source columns of the given ids, in their order; null where nothing is known."""
        return self.table.take(pc.index_in(ids, value_set=self.ids))


NOTHING_KNOWN = RawEntities(pa.array([], pa.string()), pa.table({}))


def open_tables(spec: str, config: DataConfig, tfds_manual_dir: Path | None) -> Tables:
    """Finds all sources, and looks at the first rows where the format of timestamps is to be guessed.

    Raises:
      SourceError: one is missing or unreadable.
    """
    named = {
        "interactions": spec,
        "test": config.split.test,
        "users": config.users.source,
        "items": config.items.source,
    }
    sources = {name: open_source(s, tfds_manual_dir) for name, s in named.items() if s is not None}
    column, format_ = config.interactions.timestamp, config.interactions.timestamp_format
    if column and format_ == "auto":
        format_ = guess_format(one_array(head(sources["interactions"], [column])[column]), column)
    return Tables(sources, "number" if format_ == "auto" else format_)


def columns_of(name: str, config: DataConfig) -> list[str]:
    """What to read of a table; of the interactions also the columns of entities without a table of their own."""
    if name == "test":
        return sorted(config.interactions.columns)
    if name != "interactions":
        entity = config.users if name == "users" else config.items
        return sorted(entity.columns | {id_column(name, config)})
    return sorted(config.interactions.columns.union(columns_beside(config)))


def columns_beside(config: DataConfig) -> list[str]:
    """The columns of the interactions that hold content of users and items."""
    return sorted({column for entity in config.beside.values() for column in entity.columns})


def id_column(name: str, config: DataConfig) -> str:
    """The id's column in the table `users` or `items`."""
    entity = config.users if name == "users" else config.items
    own = config.interactions.user_id if name == "users" else config.interactions.item_id
    return own if entity.id is None else entity.id


def read_interactions(tables: Tables, name: str, config: DataConfig, quarantine: Quarantine) -> Iterator[EventBatch]:
    """Reads the usable rows of `interactions` or `test`; the others go to `quarantine`."""

    def divided(batch: RawBatch) -> tuple[EventBatch, pa.Table]:
        valid = valid_interactions(batch, name, config, tables.timestamp_format)
        return EventBatch.of(valid, in_test=name == "test"), valid.quarantine

    for batch, refused in in_threads(divided, read_source(tables.sources[name], columns_of(name, config))):
        quarantine.add(refused, len(batch.timestamp))
        yield batch


def valid_interactions(batch: RawBatch, name: str, config: DataConfig, format_: Format) -> ValidBatch:
    """Divides a batch of `interactions` or `test` into usable rows and others."""
    if name == "test":
        valid = validate_interactions(batch, config.interactions, format_)
        return _behind_train(valid, timed=bool(config.interactions.timestamp))
    beside = [feature for entity in config.beside.values() for feature in entity.features]
    return validate_interactions(batch, config.interactions, format_, beside)


def _behind_train(batch: ValidBatch, timed: bool) -> ValidBatch:
    """Rows of the table that tests come after all others: their positions, and without times these are their times."""
    position = batch.position + TEST * POSITIONS_PER_SPLIT
    return replace(batch, position=position, timestamp=batch.timestamp if timed else position)


def read_entities(source: Source, id_column: str, config: EntityConfig, quarantine: Quarantine) -> RawEntities:
    """Reads a table of users or items; of an id that comes twice the first row is used, the others are refused."""
    columns = sorted(config.columns | {id_column})
    batches = [validate_entities(batch, id_column, config.features) for batch in read_source(source, columns)]
    ids, codes = unified([batch.ids.dictionary_encode() for batch in batches])
    is_first = np.zeros(len(codes), dtype=bool)
    is_first[np.unique(codes, return_index=True)[1]] = True
    ends = np.cumsum([len(batch.ids) for batch in batches])
    tables = []
    for batch, first in zip(batches, np.split(is_first, ends[:-1]), strict=True):
        fresh = refuse_repeated(batch, first, id_column)
        quarantine.add(fresh.quarantine, len(fresh.ids))
        tables.append(fresh.table.select(sorted(config.columns)))
    return RawEntities(ids.take(pa.array(codes[is_first])), pa.concat_tables(tables))
