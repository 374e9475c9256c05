"""Reads and checks the tables of a data.toml: usable rows, refused rows, and what is counted of both."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput

from data_prep.beam.content import POSITION, content_schema, content_table
from data_prep.beam.stages import Stage, Stages, StoredTables
from data_prep.beam.totals import LEAST, Facts, store_facts
from data_prep.config import DataConfig, EntityConfig
from data_prep.filters import row_masks
from data_prep.moments import Format
from data_prep.sources import Part, RawBatch, check_columns, read_part
from data_prep.tables import Tables, columns_of, id_column, valid_interactions
from data_prep.validate import Quarantine, ValidBatch, printable, quarantine_names, validate_entities
from recsys.errors import SourceError

KINDS = ("user", "item")
_PRINTED = "__printed_"


@dataclass(frozen=True)
class Read:
    """What the first stage leaves.

    Attributes:
      interactions: rows that are usable and that the filters of single rows keep.
      num_rows: how many these are, and how many the tables of users and items have.
      filtered: rows that those filters left out.
      refused: by table, rows that are not usable; of those tables that have some.
      facts: how many rows a table has and how many of them are refused for a reason, and where the first of these is.
      entities: by kind the content columns of ids, which may come several times, from tables of their own.
      temporal: timestamp features whose columns hold moments, not text.
    """

    interactions: StoredTables
    num_rows: int
    filtered: Facts
    refused: dict[str, StoredTables]
    facts: Facts
    entities: dict[str, StoredTables]
    temporal: frozenset[str]


def entity_config(kind: str, config: DataConfig) -> EntityConfig:
    """The users' or items' configuration."""
    return config.users if kind == "user" else config.items


def interactions_schema(config: DataConfig) -> pa.Schema:
    """What is kept of interactions."""
    fields: list[tuple[str, pa.DataType]] = [
        ("user", pa.string()), ("item", pa.string()), ("timestamp", pa.int64()), ("position", pa.int64()),
        ("in_test", pa.bool_()),
    ]  # fmt: skip
    fields += [(name, pa.float32()) for name in ("label", "weight") if getattr(config.interactions, name) is not None]
    return pa.schema(fields)


def read_tables(stages: Stages, tables: Tables, config: DataConfig) -> Read:
    """Runs the first stage.

    Raises:
      SourceError: a table cannot be read to its end, or is empty.
    """
    for name, source in tables.sources.items():
        check_columns(source, columns_of(name, config))
    interactions: list[beam.PCollection] = []
    refused: dict[str, StoredTables] = {}
    entities: dict[str, StoredTables] = {}
    facts: list[beam.PCollection] = []
    errors: list[beam.PCollection] = []
    with stages.stage("read") as stage:
        for name in tables.sources:
            output = _read_table(stage, name, tables, config)
            facts.append(output.facts)
            errors.append(output.errors)
            refused[name] = stage.store(f"refused_{name}", output.refused, refused_schema(name, config))
            if name in ("interactions", "test"):
                interactions.append(output.rows)
            else:
                entities[name[:-1]] = stage.store(name, output.rows, _listed_schema(name, config))
        rows = interactions | beam.Flatten()
        stored = stage.store("interactions", rows, interactions_schema(config))
        store_facts(stage, [*facts, stage.pipeline | "Some fact" >> beam.Create([{}])])
        stage.store_value("errors", errors | "All errors" >> beam.Flatten() | beam.combiners.ToList())
    return _what_was_read(stages, tables, config, Read(stored, 0, {}, refused, {}, entities, frozenset()))


def refused_schema(name: str, config: DataConfig) -> pa.Schema:
    """The columns of the refused rows of a table."""
    fixed = [("position", pa.int64()), ("reason", pa.string()), ("text", pa.string())]
    return pa.schema(
        [*fixed, *((column, pa.string()) for column in quarantine_names(columns_of(name, config)).values())]
    )


def quarantines_of(names: Iterable[str], facts: Facts) -> list[Quarantine]:
    """What is counted of refused rows, by table, without the rows."""
    found = {name: Quarantine(name, num_rows=facts[f"rows\t{name}"]) for name in names}
    # Of equally frequent reasons the first to come is named first.
    for key in sorted((key for key in facts if key.startswith(LEAST)), key=lambda key: facts[key]):
        bad = key.removeprefix(LEAST)
        _, name, reason = bad.split("\t", 2)
        found[name].counts[reason] = facts[bad]
    return list(found.values())


def repeated(name: str, config: DataConfig) -> str:
    """The reason against an id that came before."""
    return f"repeated {id_column(name, config)}"


def bad_key(name: str, reason: str) -> str:
    """The name of a reason's count."""
    return f"bad\t{name}\t{reason}"


def refused_of(table: pa.Table, name: str, config: DataConfig) -> pa.Table:
    """Rows of a table of users or items whose ids came before, as refused rows."""
    columns = [
        table[POSITION],
        pa.repeat(repeated(name, config), table.num_rows),
        pa.nulls(table.num_rows, pa.string()),
    ]
    columns += [table[_PRINTED + column] for column in columns_of(name, config)]
    return pa.table(columns, schema=refused_schema(name, config))


def _listed_schema(name: str, config: DataConfig) -> pa.Schema:
    """Content columns, and all columns as they would be printed if the row were refused."""
    printed = [pa.field(_PRINTED + column, pa.string()) for column in columns_of(name, config)]
    return pa.schema([*content_schema(entity_config(name[:-1], config)), *printed])


def _read_table(stage: Stage, name: str, tables: Tables, config: DataConfig) -> Any:
    """The outputs `rows`, `refused`, `facts` and `errors`."""
    divide = (
        partial(_divide_interactions, name=name, config=config, format_=tables.timestamp_format)
        if name in ("interactions", "test")
        else partial(_divide_entities, name=name, config=config)
    )
    read = beam.ParDo(_ReadPart(name, config, divide)).with_outputs("refused", "facts", "errors", main="rows")
    return (
        stage.pipeline
        | f"Parts of {name}" >> beam.Create(tables.sources[name].parts)
        | f"Spread {name}" >> beam.Reshuffle()
        | f"Read {name}" >> read
    )


@dataclass(frozen=True)
class _Divided:
    """A batch: rows to go on with, refused ones, how many are usable, and what else is counted."""

    rows: pa.Table
    refused: pa.Table
    num_usable: int
    facts: Facts


class _ReadPart(beam.DoFn):
    """Reads one part; a mistake in the source is told to the driver, which raises it."""

    def __init__(self, name: str, config: DataConfig, divide: Callable[[RawBatch], _Divided]) -> None:
        super().__init__()
        self._name, self._columns, self._divide = name, columns_of(name, config), divide
        self._refused_schema = refused_schema(name, config)

    def process(self, part: Part) -> Iterator[Any]:
        try:
            for batch in read_part(part, self._columns):
                divided = self._divide(batch)
                yield TaggedOutput("facts", divided.facts | _counts(self._name, divided))
                if divided.refused.num_rows:
                    yield TaggedOutput("refused", divided.refused.cast(self._refused_schema))
                yield divided.rows
        except SourceError as error:
            yield TaggedOutput("errors", [self._name, part.number, str(error)])


def _counts(name: str, divided: _Divided) -> Facts:
    """How many rows there are, and of each reason against some how many and where the first is."""
    refused = divided.refused
    counts = {f"rows\t{name}": divided.num_usable + refused.num_rows}
    for position, reason in zip(*(refused[column].to_pylist() for column in ("position", "reason")), strict=True):
        key = bad_key(name, reason)
        counts[key] = counts.get(key, 0) + 1
        counts[LEAST + key] = min(counts.get(LEAST + key, position), position)
    return counts


def _divide_interactions(batch: RawBatch, name: str, config: DataConfig, format_: Format) -> _Divided:
    valid = valid_interactions(batch, name, config, format_)
    rows = _rows_of(valid, name == "test", interactions_schema(config))
    facts: Facts = {}
    for filter_name, kept in row_masks(valid.timestamp, valid.label, config.filters):
        facts[f"filtered\t{filter_name}"] = int(len(kept) - kept.sum())
        rows = rows.filter(pa.array(kept))
    if name == "interactions":
        for entity in config.beside.values():
            facts |= _temporal(valid.table, entity)
    return _Divided(rows, valid.quarantine, len(valid.timestamp), facts)


def _divide_entities(batch: RawBatch, name: str, config: DataConfig) -> _Divided:
    entity = entity_config(name[:-1], config)
    valid = validate_entities(batch, id_column(name, config), entity.features)
    rows = content_table(valid.ids, valid.position, valid.table, entity)
    for column in columns_of(name, config):
        rows = rows.append_column(_PRINTED + column, printable(valid.table[column].combine_chunks()))
    rows = rows.cast(_listed_schema(name, config))
    return _Divided(rows, valid.quarantine, len(valid.ids), _temporal(valid.table, entity))


def _rows_of(valid: ValidBatch, in_test: bool, schema: pa.Schema) -> pa.Table:
    columns = {name: getattr(valid, name) for name in schema.names if name != "in_test"}
    return pa.table(columns | {"in_test": pa.repeat(in_test, len(valid.timestamp))}).select(schema.names).cast(schema)


def _temporal(table: pa.Table, entity: EntityConfig) -> Facts:
    return {
        f"temporal\t{feature.name}": 1
        for feature in entity.features
        if feature.type == "timestamp" and pa.types.is_temporal(table[feature.source_column].type)
    }


def _what_was_read(stages: Stages, tables: Tables, config: DataConfig, read: Read) -> Read:
    """Raises what the user is to be told, and adds the counts."""
    names = list(tables.sources)
    errors = stages.value("read", "errors")
    if errors:
        raise SourceError(min(errors, key=lambda error: (names.index(error[0]), error[1]))[2])
    facts = stages.value("read", "facts")
    for name, source in tables.sources.items():
        if not facts.get(f"rows\t{name}"):
            raise SourceError(f"{source.spec} is empty: expected at least one row")
    empty_label = None if config.interactions.label is None else np.empty(0, np.float32)
    masks = row_masks(np.empty(0, np.int64), empty_label, config.filters)
    return Read(
        read.interactions,
        sum(facts[f"rows\t{name}"] for name in names),
        {name: facts.get(f"filtered\t{name}", 0) for name, _ in masks},
        {name: rows for name, rows in read.refused.items() if any(key.startswith(bad_key(name, "")) for key in facts)},
        facts,
        read.entities,
        frozenset(key.split("\t")[1] for key in facts if key.startswith("temporal\t")),
    )
