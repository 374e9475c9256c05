"""Completes a dataset: tables, statistics, the report, and last the manifest with the digests of the others."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.config import DataConfig
from data_prep.report import render_report
from data_prep.sources import fingerprint
from data_prep.tables import Tables
from data_prep.validate import Quarantine
from recsys.artifacts import sha256_of, write_json
from recsys.schema import FORMAT_VERSION, Feature, Manifest, NumericFit, Schema, Shard, Source, SplitRule

_TOOLS = ("numpy", "pandas", "pyarrow", "recsys", "tensorflow")


def write_table(folder: Path, name: str, table: pa.Table) -> Shard:
    """Writes a Parquet file, named relative to the dataset."""
    (folder / name).parent.mkdir(exist_ok=True)
    pq.write_table(table, folder / name)
    return Shard(name=name, num_rows=table.num_rows, sha256=sha256_of(folder / name))


def write_quarantine(folder: Path, quarantines: list[Quarantine]) -> dict[str, int]:
    """Writes the refused rows of each table; returns their counts by reason, named by table beyond interactions."""
    counts: dict[str, int] = {}
    for quarantine in quarantines:
        if quarantine.counts:
            write_table(folder, f"quarantine/{quarantine.table_name}.parquet", quarantine.table())
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
    """
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
        sources={name: Source(spec=s.spec, fingerprint=fingerprint(s)) for name, s in tables.sources.items()},
        tool_versions={tool: version(tool) for tool in _TOOLS},
        **files,
    )
    write_json(folder / "statistics.json", statistics)
    (folder / "report.html").write_text(render_report(manifest), encoding="utf-8")
    write_json(folder / "manifest.json", manifest.model_dump(mode="json"))
    return manifest
