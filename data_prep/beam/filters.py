"""Repeated users and items, refused rows in order, duplicates and the k-core."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput

from data_prep.beam.content import KEY, POSITION, content_schema
from data_prep.beam.k_core import Minimum, k_core
from data_prep.beam.ordered import OrderedTables, store_ordered
from data_prep.beam.rank import GlobalRank
from data_prep.beam.read import Read, bad_key, entity_config, quarantines_of, refused_of, repeated
from data_prep.beam.stages import Stage, Stages, StoredTables
from data_prep.beam.tables import ShuffleByHash, num_rows
from data_prep.beam.totals import LEAST, Facts, add_facts, store_facts
from data_prep.config import DataConfig
from data_prep.events import Events
from data_prep.filters import deduplicated
from data_prep.tables import Tables
from data_prep.validate import Quarantine, first_positions

RANK = "__rank"


@dataclass(frozen=True)
class Filtered:
    """What is left.

    Attributes:
      interactions: rows.
      num_rows: how many.
      counts: by filter, how many rows it left out.
      refused: by table the refused rows in order, of those tables that have some.
      quarantines: what is counted of refused rows, by table, without the rows.
      entities: by kind the content columns of each id of a table of their own.
      listed: by kind how many ids such a table has.
    """

    interactions: StoredTables
    num_rows: int
    counts: Facts
    refused: dict[str, OrderedTables]
    quarantines: list[Quarantine]
    entities: dict[str, StoredTables]
    listed: dict[str, int]


def filter_rows(stages: Stages, read: Read, tables: Tables, config: DataConfig, num_partitions: int) -> Filtered:
    """Runs the second stage, and those of the k-core."""
    rows, entities, counts = read.interactions, {}, dict(read.filtered)
    refused: dict[str, list[beam.PCollection]] = {}
    facts: list[beam.PCollection] = []
    with stages.stage("filter") as stage:
        for name, stored in read.refused.items():
            refused[name] = [stage.read(stored)]
        for kind, stored in read.entities.items():
            first = _first_rows(stage, kind, stored, config, num_partitions)
            entities[kind] = stage.store(f"{kind}s", first.rows, content_schema(entity_config(kind, config)))
            refused.setdefault(f"{kind}s", []).append(first.refused)
            facts += _listed_facts(kind, first, config)
        ordered = {name: _ordered(stage, name, parts, num_partitions) for name, parts in refused.items()}
        events = stage.read(rows)
        facts.append(events | "Count before" >> beam.Map(rows_as, "before"))
        if config.filters.duplicates != "all":
            schema = _weighted(rows.schema, config.filters.duplicates)
            events |= "Rows of a pair" >> ShuffleByHash(["user", "item"], num_partitions)
            events |= "One of a pair" >> beam.Map(_without_duplicates, config.filters.duplicates, schema)
            rows = stage.store("rows", events, schema)
            facts.append(events | "Count after" >> beam.Map(rows_as, "after"))
        store_facts(stage, facts)
    found = stages.value("filter", "facts")
    left = found["before"]
    if config.filters.duplicates != "all":
        left = found.get("after", 0)
        counts["duplicates"] = found["before"] - left
    minimums = [
        Minimum(kind, rows_)
        for kind, rows_ in (
            ("user", config.filters.min_user_interactions),
            ("item", config.filters.min_item_interactions),
        )
        if rows_ > 1
    ]
    if minimums:
        before = left
        if left:
            rows, left = k_core(stages, rows, minimums, num_partitions)
        counts["k-core"] = before - left
    quarantines = quarantines_of(tables.sources, add_facts([read.facts, found]))
    listed = {kind: found.get(f"listed {kind}", 0) for kind in entities}
    kept = {name: ordered[name] for name in ordered if any(q.table_name == name and q.counts for q in quarantines)}
    return Filtered(rows, left, counts, kept, quarantines, entities, listed)


def _first_rows(stage: Stage, kind: str, stored: StoredTables, config: DataConfig, num_partitions: int) -> Any:
    """The outputs `rows` and `refused`."""
    return (
        stage.read(stored)
        | f"Rows of a {kind}" >> ShuffleByHash([KEY], num_partitions)
        | f"First of a {kind}" >> beam.FlatMap(_divide_repeated, kind, config).with_outputs("refused", main="rows")
    )


def _listed_facts(kind: str, first: Any, config: DataConfig) -> list[beam.PCollection]:
    """How many ids a table has, and how many rows of ids that came before."""
    key = bad_key(f"{kind}s", repeated(f"{kind}s", config))
    return [
        first.rows | f"Count {kind}s" >> beam.Map(rows_as, f"listed {kind}"),
        first.refused | f"Count repeated {kind}s" >> beam.Map(_refused_facts, key),
    ]


def _divide_repeated(table: pa.Table, kind: str, config: DataConfig) -> Iterator[Any]:
    table = table.sort_by(POSITION)
    first = first_positions(table[KEY].combine_chunks())
    yield table.take(first).select(content_schema(entity_config(kind, config)).names)
    others = np.setdiff1d(np.arange(table.num_rows), first)
    if len(others):
        yield TaggedOutput("refused", refused_of(table.take(others), f"{kind}s", config))


def rows_as(table: pa.Table, name: str) -> Facts:
    """The number of rows, so named."""
    return {name: num_rows(table)}


def _refused_facts(refused: pa.Table, key: str) -> Facts:
    return {key: num_rows(refused), LEAST + key: min(refused["position"].to_pylist())}


def _ordered(stage: Stage, name: str, parts: list[beam.PCollection], num_partitions: int) -> OrderedTables:
    """Stores the refused rows of a table by position."""
    ranked = (
        parts
        | f"All refused {name}" >> beam.Flatten()
        | f"Order refused {name}" >> GlobalRank([("position", "ascending")], num_partitions, RANK)
    )
    return store_ordered(stage, f"refused_{name}", ranked, RANK)


def _weighted(schema: pa.Schema, policy: str) -> pa.Schema:
    if policy != "sum" or "weight" in schema.names:
        return schema
    return schema.append(pa.field("weight", pa.float32()))


def _without_duplicates(table: pa.Table, policy: str, schema: pa.Schema) -> pa.Table:
    chosen, weight = deduplicated(events_of(table), policy)
    if weight is not None:
        place = table.column_names.index("weight") if "weight" in table.column_names else None
        table = (
            table.append_column("weight", pa.array(weight))
            if place is None
            else table.set_column(place, "weight", pa.array(weight))
        )
    return table.filter(pa.array(chosen)).select(schema.names).cast(schema)


def events_of(table: pa.Table) -> Events:
    """The rows of one partition, in the order of their source, as the engine of one machine has all of them."""
    users, items = (table[name].combine_chunks().dictionary_encode() for name in ("user", "item"))
    columns: dict[str, Any] = {
        name: table[name].to_numpy() if name in table.column_names else None
        for name in ("timestamp", "position", "in_test", "label", "weight")
    }
    return Events(
        user_ids=users.dictionary,
        item_ids=items.dictionary,
        user=users.indices.to_numpy().astype(np.int32),
        item=items.indices.to_numpy().astype(np.int32),
        **columns,
    )
