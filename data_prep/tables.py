"""Opens and reads the tables that a data.toml names: interactions, and users and items of their own."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from data_prep.columns import one_array
from data_prep.config import DataConfig, EntityConfig
from data_prep.moments import Format, guess_format
from data_prep.sources import RawBatch, Source, head, open_source, read_source
from data_prep.split import POSITIONS_PER_SPLIT, TEST
from data_prep.validate import Quarantine, ValidBatch, first_positions, validate_entities, validate_interactions


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
    columns = set(config.interactions.columns)
    for entity in (config.users, config.items):
        if entity.source is None:
            columns |= entity.columns
    return sorted(columns)


def id_column(name: str, config: DataConfig) -> str:
    """The id's column in the table `users` or `items`."""
    entity = config.users if name == "users" else config.items
    own = config.interactions.user_id if name == "users" else config.interactions.item_id
    return own if entity.id is None else entity.id


def read_interactions(tables: Tables, name: str, config: DataConfig, quarantine: Quarantine) -> Iterator[ValidBatch]:
    """Reads the usable rows of `interactions` or `test`; the others go to `quarantine`."""
    for batch in read_source(tables.sources[name], columns_of(name, config)):
        valid = valid_interactions(batch, name, config, tables.timestamp_format)
        quarantine.add(valid.quarantine, len(valid.timestamp))
        yield valid


def valid_interactions(batch: RawBatch, name: str, config: DataConfig, format_: Format) -> ValidBatch:
    """Divides a batch of `interactions` or `test` into usable rows and others."""
    if name == "test":
        valid = validate_interactions(batch, config.interactions, format_)
        return _behind_train(valid, timed=bool(config.interactions.timestamp))
    beside = [
        feature for entity in (config.users, config.items) if entity.source is None for feature in entity.features
    ]
    return validate_interactions(batch, config.interactions, format_, beside)


def _behind_train(batch: ValidBatch, timed: bool) -> ValidBatch:
    """Rows of the table that tests come after all others: their positions, and without times these are their times."""
    position = batch.position + TEST * POSITIONS_PER_SPLIT
    return replace(batch, position=position, timestamp=batch.timestamp if timed else position)


def read_entities(source: Source, id_column: str, config: EntityConfig, quarantine: Quarantine) -> RawEntities:
    """Reads a table of users or items; of an id that comes twice the first row is used, the others are refused."""
    found = FirstRows(sorted(config.columns))
    for batch in read_source(source, sorted(config.columns | {id_column})):
        ids, table, refused = validate_entities(batch, id_column, config.features, found.ids)
        quarantine.add(refused, len(ids))
        found.add(ids, table)
    return found.entities()


@dataclass
class FirstRows:
    """Gathers the first row of each id, of the named columns.

    Attributes:
      columns: what is kept of a row.
      ids: those that were seen.
    """

    columns: list[str]
    ids: pa.StringArray = field(default_factory=lambda: pa.array([], pa.string()))
    _tables: list[pa.Table] = field(default_factory=list)

    def add(self, ids: pa.StringArray, table: pa.Table) -> None:
        """Takes a batch of rows."""
        first = first_positions(ids)
        new = pc.invert(pc.is_in(ids.take(pa.array(first)), value_set=self.ids))
        chosen = pa.array(first).filter(new)
        if len(chosen):
            self.ids = pa.concat_arrays([self.ids, ids.take(chosen)])
            self._tables.append(table.select(self.columns).take(chosen))

    def entities(self) -> RawEntities:
        """All ids that were seen, and the first row of each."""
        return RawEntities(self.ids, pa.concat_tables(self._tables) if self._tables else pa.table({}))
