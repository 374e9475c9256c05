"""Completes a dataset: tables, statistics, the report, and last the manifest with the digests of the others."""

from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.config import DataConfig
from data_prep.extend import OldDataset
from data_prep.report import render_report
from data_prep.sources import fingerprint
from data_prep.tables import Tables
from data_prep.time_units import unit_of
from data_prep.validate import Quarantine
from recsys.artifacts import sha256_of, write_json
from recsys.schema import FORMAT_VERSION, Feature, Manifest, NumericFit, Schema, Shard, Source, SplitRule

_ROW_GROUP_ROWS = 1 << 20
_TOOLS = ("numpy", "pandas", "pyarrow", "recsys", "tensorflow")


def write_table(folder: Path, name: str, table: pa.Table) -> Shard:
    """Writes a Parquet file, named relative to the dataset."""
    return write_tables(folder, name, table.schema, [table])


def write_tables(folder: Path, name: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> Shard:
    """Writes one Parquet file of the rows of several tables; its bytes do not depend on where one of them ends."""
    (folder / name).parent.mkdir(exist_ok=True)
    num_rows, pending = 0, schema.empty_table()
    with pq.ParquetWriter(folder / name, schema) as writer:
        for table in tables:
            num_rows += table.num_rows
            pending = pa.concat_tables([pending, table])
            while pending.num_rows >= _ROW_GROUP_ROWS:
                writer.write_table(pending.slice(0, _ROW_GROUP_ROWS).combine_chunks(), _ROW_GROUP_ROWS)
                pending = pending.slice(_ROW_GROUP_ROWS)
        if pending.num_rows:
            writer.write_table(pending.combine_chunks(), _ROW_GROUP_ROWS)
    return Shard(name=name, num_rows=num_rows, sha256=sha256_of(folder / name))


def write_quarantine(folder: Path, quarantines: list[Quarantine]) -> None:
    """Writes the refused rows of each table."""
    for quarantine in quarantines:
        if quarantine.counts:
            write_table(folder, f"quarantine/{quarantine.table_name}.parquet", quarantine.table())


def count_refused(quarantines: list[Quarantine]) -> dict[str, int]:
    """The refused rows by reason, named by table beyond interactions."""
    counts: dict[str, int] = {}
    for quarantine in quarantines:
        prefix = "" if quarantine.table_name == "interactions" else f"{quarantine.table_name}: "
        counts |= {prefix + reason: count for reason, count in sorted(quarantine.counts.items())}
    return counts


def complete(
    folder: Path,
    config: DataConfig,
    tables: Tables,
    features: dict[str, list[Feature]],
    files: dict[str, Any],
    rule: SplitRule,
    numeric_fits: dict[str, NumericFit],
    quarantine: dict[str, int],
    filtered: dict[str, int],
    statistics: dict[str, Any],
    old: OldDataset | None,
) -> Manifest:
    """Writes `statistics.json`, `report.html` and `manifest.json`.

    Args:
      folder: the dataset, whose other files are there.
      config: what it was made by.
      tables: what it was made from.
      features: those of each `user` and `item`.
      files: the manifest's `splits`, `items`, `users` and `vocabularies`.
      rule: how it was split.
      numeric_fits: what was learned of numbers.
      quarantine: refused rows by reason.
      filtered: rows left out by filter.
      statistics: the content of `statistics.json`.
      old: the dataset that it extends.
    """
    sources = {name: Source(spec=s.spec, fingerprint=fingerprint(s)) for name, s in tables.sources.items()}
    if old is not None:
        sources["extends"] = old.source
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        schema_=Schema(
            user_features=tuple(features["user"]),
            item_features=tuple(features["item"]),
            history_length=config.history_length,
            label=config.interactions.label is not None,
            weight=config.interactions.weight is not None or config.filters.duplicates == "sum",
        ),
        split_rule=rule,
        numeric_fits=numeric_fits,
        quarantine=quarantine,
        filtered=filtered,
        statistics=statistics,
        seed=config.seed,
        sources=sources,
        timestamp_unit=unit_of(config, tables.timestamp_format),
        tool_versions={tool: version(tool) for tool in _TOOLS},
        **files,
    )
    write_json(folder / "statistics.json", statistics)
    (folder / "report.html").write_text(render_report(manifest), encoding="utf-8")
    write_json(folder / "manifest.json", manifest.model_dump(mode="json"))
    return manifest
