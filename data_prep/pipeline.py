"""`recsys prepare`: a raw source to a complete DATASET directory."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.config import DataConfig, EntityConfig
from data_prep.encode import Entities, encode_entities
from data_prep.sequences import Sequences, build_sequences
from data_prep.shards import write_shards
from data_prep.sources import RawTable, read_table
from data_prep.split import temporal_split
from data_prep.validate import Validated, unusable_id, validate
from recsys.artifacts import new_directory, refuse_existing, sha256_of, write_json
from recsys.errors import SourceError
from recsys.schema import FORMAT_VERSION, SPLITS, Manifest, Schema, Shard, Source, SplitRule

_TOOLS = ("numpy", "pandas", "pyarrow", "recsys", "tensorflow")


def prepare(
    spec: str,
    config: DataConfig,
    out: Path,
    tfds_manual_dir: Path | None = None,
    max_bad_fraction: float = 0.01,
) -> Manifest:
    """Turns raw interactions into a DATASET.

    Args:
      spec: the interactions' source, as `data_prep.sources.read_table` takes it.
      config: which column is what.
      out: the directory to make.
      tfds_manual_dir: a folder with the archives that TFDS would download.
      max_bad_fraction: the fraction of bad rows above which nothing is written.

    Raises:
      SourceError: the source cannot be used.
      OutputExistsError: `out` exists.
    """
    refuse_existing(out)
    raw = _read_interactions(spec, config, tfds_manual_dir)
    checked = validate(raw.frame, config.interactions, max_bad_fraction)
    split, rule = temporal_split(checked.interactions["timestamp"].to_numpy(np.int64), config.split)
    users, items = (
        _entities(kind, checked, split == 0, entity, config.seed, tfds_manual_dir)
        for kind, entity in (("user", config.users), ("item", config.items))
    )
    sequences = build_sequences(
        users.rows.get_indexer(pd.Index(checked.interactions["user"])).astype(np.int32),
        items.rows.get_indexer(pd.Index(checked.interactions["item"])).astype(np.int32),
        checked.interactions["timestamp"].to_numpy(np.int64),
        split,
        config.history_length,
    )
    source = Source(spec=spec, fingerprint=raw.fingerprint)
    with new_directory(out) as folder:
        return _write(folder, config, source, checked, rule, users, items, sequences)


def _write(
    folder: Path,
    config: DataConfig,
    source: Source,
    checked: Validated,
    rule: SplitRule,
    users: Entities,
    items: Entities,
    sequences: Sequences,
) -> Manifest:
    """Writes all files of a dataset; the manifest, which holds the digests of the others, comes last."""
    if len(checked.quarantine):
        _write_table(folder, "quarantine/interactions.parquet", pa.Table.from_pandas(checked.quarantine))
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        schema_=Schema(
            user_features=users.features, item_features=items.features, history_length=config.history_length
        ),
        splits={
            name: write_shards(folder, name, sequences, np.flatnonzero(sequences.split == number))
            for number, name in enumerate(SPLITS)
        },
        items=_write_table(folder, "items/items.parquet", items.table),
        users=_write_table(folder, "users/users.parquet", users.table),
        vocabularies={
            name: _write_table(folder, f"vocabulary/{name}.parquet", vocabulary.table())
            for name, vocabulary in (users.vocabularies | items.vocabularies).items()
        },
        split_rule=rule,
        quarantine=checked.counts,
        statistics=_statistics(sequences, users, items),
        seed=config.seed,
        source=source,
        tool_versions={tool: version(tool) for tool in _TOOLS},
    )
    write_json(folder / "statistics.json", manifest.statistics)
    write_json(folder / "manifest.json", manifest.model_dump(mode="json"))
    return manifest


def _read_interactions(spec: str, config: DataConfig, tfds_manual_dir: Path | None) -> RawTable:
    columns = set(config.interactions.model_dump().values())
    for entity in (config.items, config.users):
        if entity.source is None:
            columns |= entity.columns
    return read_table(spec, columns, tfds_manual_dir)


def _entities(
    kind: str,
    checked: Validated,
    in_train: npt.NDArray[np.bool_],
    config: EntityConfig,
    seed: int,
    tfds_manual_dir: Path | None,
) -> Entities:
    """Encodes all users or items: those of the entity table, and those that only interactions name."""
    ids = pd.Index(checked.interactions[kind], dtype=object)
    if config.source is None:
        first = ~ids.duplicated()
        raw = checked.raw[first].set_axis(ids[first])
    else:
        own = _own_table(kind, config.source, config, tfds_manual_dir)
        raw = own.reindex(own.index.append(ids[~ids.isin(own.index)].unique()))
    return encode_entities(kind, raw, checked.interactions[kind][in_train], config, seed)


def _own_table(kind: str, source: str, config: EntityConfig, tfds_manual_dir: Path | None) -> pd.DataFrame:
    """Reads an entity table; its index is the raw id.

    Raises:
      SourceError: an id is missing, holds a line break or comes twice.
    """
    column = f"{kind}_id" if config.id is None else config.id
    table = read_table(source, config.columns | {column}, tfds_manual_dir).frame
    unusable = unusable_id(table[column], column)
    if (unusable != "").any():
        row = int(np.flatnonzero(unusable != "")[0])
        raise SourceError(f"{source}: {unusable.iloc[row]} in row {row + 1}: expected one usable id per {kind}")
    ids = pd.Index(table[column].astype(str), dtype=object)
    if ids.has_duplicates:
        twice = ids[ids.duplicated()][0]
        raise SourceError(f"{source} names {column} {twice} twice: expected one row per {kind}")
    # As objects, or integers would become floats where an id has no row of its own.
    return table.astype(object).set_axis(ids)


def _write_table(folder: Path, name: str, table: pa.Table) -> Shard:
    (folder / name).parent.mkdir(exist_ok=True)
    pq.write_table(table, folder / name)
    return Shard(name=name, num_rows=table.num_rows, sha256=sha256_of(folder / name))


def _statistics(sequences: Sequences, users: Entities, items: Entities) -> dict[str, Any]:
    train_users = np.unique(sequences.user_row[sequences.split == 0])
    test_users = np.unique(sequences.user_row[sequences.split == 2])
    train_items = np.unique(sequences.item_row[sequences.split == 0])
    return {
        "interactions": len(sequences.user_row),
        "users": len(users.rows),
        "items": len(items.rows),
        "first_timestamp": int(sequences.timestamp.min()),
        "last_timestamp": int(sequences.timestamp.max()),
        "test_users": len(test_users),
        "test_users_seen_in_train": len(np.intersect1d(test_users, train_users)),
        "items_without_train_interaction": len(items.rows) - len(train_items),
    }
