"""`recsys prepare`: a raw source to a complete DATASET directory, on one machine."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.beside import read_beside
from data_prep.columns import texts_fit
from data_prep.config import DataConfig
from data_prep.encode import Entities, encode_entities
from data_prep.events import EventBatch, Events, joined
from data_prep.extend import OldDataset, open_old
from data_prep.filters import apply_filters
from data_prep.manifest import complete, count_refused, write_quarantine, write_table
from data_prep.sequences import Sequences, build_sequences
from data_prep.shards import write_shards
from data_prep.split import TEST, TRAIN, split_events, times_of_rows
from data_prep.statistics import count_entities, describe, profile_users, time_edges
from data_prep.tables import (
    NOTHING_KNOWN,
    RawEntities,
    Tables,
    id_column,
    open_tables,
    read_entities,
    read_interactions,
)
from data_prep.threads import in_threads
from data_prep.time_units import with_dates_as_numbers
from data_prep.validate import Quarantine
from recsys.artifacts import new_directory, refuse_existing
from recsys.schema import SPLITS, Manifest, SplitRule
from recsys.stages import stage


@dataclass(frozen=True)
class _Read:
    """What was read: interactions, and by kind the users and items that are listed in a table of their own."""

    events: Events
    listed: dict[str, RawEntities]
    quarantines: list[Quarantine]


def prepare(
    spec: str,
    config: DataConfig,
    out: Path,
    tfds_manual_dir: Path | None = None,
    max_bad_fraction: float = 0.01,
    extend: Path | None = None,
) -> Manifest:
    """Turns raw interactions into a DATASET.

    Args:
      spec: the interactions' source, as `data_prep.sources.open_source` takes it.
      config: which column is what.
      out: the directory to make.
      tfds_manual_dir: a folder with the archives that TFDS would download.
      max_bad_fraction: the fraction of bad rows of a table above which nothing is written.
      extend: a dataset whose ids and fits are kept.

    Raises:
      SourceError: the source cannot be used.
      ConfigError: the dataset to extend has other features.
      OutputExistsError: `out` exists.
    """
    refuse_existing(out)
    old = open_old(extend, config)
    tables = open_tables(spec, config, tfds_manual_dir)
    config = with_dates_as_numbers(config, tables.sources["interactions"])
    with texts_fit():
        read = _read(tables, config, max_bad_fraction)
    with stage("filtering and splitting") as progress:
        events, filtered = apply_filters(read.events, config.filters)
        by_position = not config.interactions.timestamp
        split, rule = split_events(events, config.split, config.seed, by_position)
        if by_position:
            events = replace(events, timestamp=times_of_rows(events.position, split))
        progress.advance(len(events))
    with stage("encoding users and items"), texts_fit():
        known = read.listed | read_beside(tables, config, events, split)
        (users, user_row), (items, item_row) = in_threads(
            lambda kind: _encoded(kind, config, known, events, split, old), ("user", "item")
        )
    with stage("building histories"):
        sequences = build_sequences(
            user_row, item_row, events.timestamp, split, events.label, events.weight, config.history_length
        )
    with stage("writing"), new_directory(out) as folder:
        return _write(folder, config, tables, read, users, items, sequences, rule, filtered, old)


def _read(tables: Tables, config: DataConfig, max_bad_fraction: float) -> _Read:
    """Reads every table, and refuses those with too many bad rows."""
    batches: list[EventBatch] = []
    quarantines = {name: Quarantine(name) for name in tables.sources}
    with stage("reading") as progress:
        for name in ("interactions", "test"):
            if name not in tables.sources:
                continue
            for batch in read_interactions(tables, name, config, quarantines[name]):
                batches.append(batch)
                progress.advance(len(batch.timestamp))
    listed = {}
    for kind, entity in (("user", config.users), ("item", config.items)):
        if entity.source is not None:
            name = f"{kind}s"
            listed[kind] = read_entities(tables.sources[name], id_column(name, config), entity, quarantines[name])
    for quarantine in quarantines.values():
        quarantine.require_few(max_bad_fraction)
    return _Read(joined(batches), listed, list(quarantines.values()))


def _encoded(
    kind: str,
    config: DataConfig,
    known: dict[str, RawEntities],
    events: Events,
    split: npt.NDArray[np.int8],
    old: OldDataset | None,
) -> tuple[Entities, npt.NDArray[np.int32]]:
    """Encodes all users or items, listed or only named by interactions; returns each interaction's row, too."""
    ids, codes, raw = getattr(events, f"{kind}_ids"), getattr(events, kind), known.get(kind, NOTHING_KNOWN)
    entity = config.users if kind == "user" else config.items
    train_count = np.bincount(codes[split == TRAIN], minlength=len(ids))
    if entity.source is not None:
        unmet = raw.ids.filter(pc.invert(pc.is_in(raw.ids, value_set=ids)))
        train_count = np.r_[train_count, np.zeros(len(unmet), np.int64)]
        all_ids = pa.concat_arrays([ids, unmet])
    else:
        all_ids = ids
    encoded = encode_entities(kind, all_ids, raw.of(all_ids), train_count, entity, config.seed, old)
    if old is not None:
        old.require_same(encoded.features)
    return encoded, encoded.row[codes]


def _write(
    folder: Path,
    config: DataConfig,
    tables: Tables,
    read: _Read,
    users: Entities,
    items: Entities,
    sequences: Sequences,
    rule: SplitRule,
    filtered: dict[str, int],
    old: OldDataset | None,
) -> Manifest:
    """Writes all files of a dataset, while its statistics are counted."""
    with ThreadPoolExecutor(1) as counting:
        counted = counting.submit(_statistics, config, read, users, items, sequences)
        files = _write_files(folder, users, items, sequences)
        write_quarantine(folder, read.quarantines)
        statistics = counted.result()
    return complete(
        folder,
        config,
        tables,
        features={"user": users.features, "item": items.features},
        files=files,
        rule=rule,
        numeric_fits=users.numeric_fits | items.numeric_fits,
        quarantine=count_refused(read.quarantines),
        filtered=filtered,
        statistics=statistics,
        old=old,
    )


def _write_files(folder: Path, users: Entities, items: Entities, sequences: Sequences) -> dict[str, Any]:
    """Writes interactions, users, items and vocabularies; returns what the manifest says of them."""
    return {
        "splits": {
            name: write_shards(folder, name, sequences, np.flatnonzero(sequences.split == number))
            for number, name in enumerate(SPLITS)
        },
        "items": write_table(folder, "items/items.parquet", items.table),
        "users": write_table(folder, "users/users.parquet", users.table),
        "vocabularies": {
            name: write_table(folder, f"vocabulary/{name}.parquet", vocabulary.table())
            for name, vocabulary in (users.vocabularies | items.vocabularies).items()
        },
    }


def _statistics(
    config: DataConfig, read: _Read, users: Entities, items: Entities, sequences: Sequences
) -> dict[str, Any]:
    edges = time_edges(int(sequences.timestamp.min()), int(sequences.timestamp.max()))
    test_start = int(sequences.timestamp[sequences.split == TEST].min())
    listed = {kind: len(entities.ids) for kind, entities in read.listed.items()}
    return describe(
        profile_users(sequences, edges, config.history_length, test_start),
        edges,
        config.history_length,
        count_entities(sequences.user_row, sequences.split, users.table.num_rows, listed.get("user")),
        count_entities(sequences.item_row, sequences.split, items.table.num_rows, listed.get("item")),
        {"user": users.coverage, "item": items.coverage},
        timed=bool(config.interactions.timestamp),
    )
