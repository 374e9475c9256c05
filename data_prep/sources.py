"""Reads a raw table from where it is: CSV or Parquet files, TensorFlow Datasets, the synthetic generator."""

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep import synthetic
from recsys.artifacts import sha256_of
from recsys.errors import SourceError

_CSV_SUFFIXES = (".csv", ".csv.gz")


@dataclass(frozen=True)
class RawTable:
    """Raw rows. Text columns hold strings, list columns hold lists, a missing value is None.

    Attributes:
      frame: the columns that were asked for.
      fingerprint: changes when the content does.
    """

    frame: pd.DataFrame
    fingerprint: str


def read_table(spec: str, columns: set[str], tfds_manual_dir: Path | None = None) -> RawTable:
    """Reads the named columns of a source.

    Args:
      spec: a path to a CSV file, a Parquet file or a folder of Parquet files, `tfds:NAME[/CONFIG]`, or
        `synthetic:[key=value,…]`.
      columns: the columns to read.
      tfds_manual_dir: a folder with the archives that TFDS would download.

    Raises:
      SourceError: the source is missing, unreadable or empty, or lacks a column.
    """
    table = _reader(spec)(spec, columns, tfds_manual_dir)
    if table.frame.empty:
        raise SourceError(f"{spec} is empty: expected at least one row")
    return table


def _reader(spec: str) -> Callable[[str, set[str], Path | None], RawTable]:
    if spec.startswith("tfds:"):
        return _read_tfds
    if spec.startswith("synthetic:"):
        return _read_synthetic
    path = Path(spec)
    if not path.exists():
        raise SourceError(f"{spec} is missing: expected a CSV or Parquet file, tfds:NAME or synthetic:")
    if path.name.endswith(_CSV_SUFFIXES):
        return _read_csv
    if path.suffix == ".parquet" or path.is_dir():
        return _read_parquet
    raise SourceError(f"{spec}: expected a name that ends in .csv, .csv.gz or .parquet, or a folder of .parquet files")


def _read_csv(spec: str, columns: set[str], _: Path | None) -> RawTable:
    try:
        # Ids stay as written: "007" is no number and "NA" is no missing value.
        header = pd.read_csv(spec, nrows=0).columns
        _require(spec, columns, set(header))
        frame = pd.read_csv(spec, usecols=sorted(columns), dtype=str, keep_default_na=False)
    except pd.errors.EmptyDataError as error:
        raise SourceError(f"{spec} is empty: expected a header row") from error
    except (pd.errors.ParserError, UnicodeDecodeError, OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{spec} is no readable CSV: {' '.join(str(error).split())}") from error
    return RawTable(frame, sha256_of(Path(spec)))


def _read_parquet(spec: str, columns: set[str], _: Path | None) -> RawTable:
    path = Path(spec)
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise SourceError(f"{spec} holds no .parquet file")
    try:
        for file in files:
            _require(str(file), columns, set(pq.read_schema(file).names))
        table = pa.concat_tables([pq.read_table(file, columns=sorted(columns)) for file in files])
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"{spec} is no readable Parquet: {' '.join(str(error).split())}") from error
    # pandas would turn an integer column that has nulls into floats, and the id 7 into "7.0".
    frame = table.to_pandas(integer_object_nulls=True)
    return RawTable(frame, _joint_fingerprint(files))


def _joint_fingerprint(files: list[Path]) -> str:
    return hashlib.sha256("".join(sha256_of(file) for file in files).encode()).hexdigest()


def _read_synthetic(spec: str, columns: set[str], _: Path | None) -> RawTable:
    frame = synthetic.generate(synthetic.parse_options(spec))
    _require(spec, columns, set(frame.columns))
    return RawTable(frame[sorted(columns)], spec)


def _read_tfds(spec: str, columns: set[str], manual_dir: Path | None) -> RawTable:
    import tensorflow_datasets as tfds  # takes seconds to import, and only this source needs it

    tfds.disable_progress_bar()
    name = spec.removeprefix("tfds:")
    try:
        builder = tfds.builder(name)
        options = {} if manual_dir is None else {"manual_dir": str(manual_dir)}
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(**options))
    except tfds.core.load.DatasetNotFoundError as error:
        raise SourceError(f"{spec}: no such TensorFlow Datasets builder; `tfds.list_builders()` names them") from error
    except (OSError, ValueError, tfds.download.DownloadError) as error:
        reason = " ".join(str(error).split())
        raise SourceError(
            f"{spec} cannot be downloaded or prepared ({reason}); without a network name the folder that holds its "
            "archive, --tfds-manual-dir DIR"
        ) from error
    _require(spec, columns, set(builder.info.features))
    batches = builder.as_dataset(split="train").map(lambda row: {c: row[c] for c in columns}).ragged_batch(8192)
    parts = [
        pd.DataFrame({c: _decode(batch[c], builder.info.features[c]) for c in sorted(columns)})
        for batch in batches.as_numpy_iterator()
    ]
    rows = builder.info.splits["train"].num_examples
    return RawTable(pd.concat(parts, ignore_index=True), f"{builder.info.full_name}, {rows} rows")


def _decode(values: Any, feature: Any) -> list[Any]:
    """Turns bytes into text, class labels into their names and ragged values into lists."""
    element = getattr(feature, "feature", feature)  # of a Sequence; a plain feature is its own element
    names = getattr(element, "names", None)  # of a ClassLabel

    def readable(value: Any) -> Any:
        if isinstance(value, (list, np.ndarray)):
            return [readable(part) for part in value]
        if names is not None:
            return names[value]
        return value.decode("utf-8") if isinstance(value, bytes) else value

    return [readable(value) for value in (values.to_list() if hasattr(values, "to_list") else values)]


def _require(spec: str, columns: set[str], present: set[str]) -> None:
    if absent := sorted(columns - present):
        raise SourceError(f"{spec} lacks the columns {', '.join(absent)}: it has {', '.join(sorted(present))}")
