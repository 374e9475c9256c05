"""Reads raw tables from where they are, as a stream of batches: files, TensorFlow Datasets, the synthetic generator.

Memory is bounded however large a source is, and no row is lost: each is in a table or among the refused.
"""

import glob
import hashlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pyarrow as pa

from data_prep.formats import tfds
from data_prep.formats.batch import FileFormat, Format, Part, RawBatch, Source
from data_prep.formats.delimited import Delimited
from data_prep.formats.generated import PREFIX as SYNTHETIC_PREFIX
from data_prep.formats.generated import Synthetic
from data_prep.formats.json_lines import JsonLines
from data_prep.formats.parquet import Parquet
from recsys.errors import SourceError

__all__ = [
    "Part",
    "RawBatch",
    "Source",
    "check_columns",
    "fingerprint",
    "head",
    "open_source",
    "read_part",
    "read_source",
]

_FILE_FORMATS: dict[str, FileFormat] = {
    "csv": Delimited(","),
    "tsv": Delimited("\t"),
    "jsonl": JsonLines(),
    "parquet": Parquet(),
}
_TFDS = tfds.Tfds()
_SYNTHETIC = Synthetic()
FORMATS: dict[str, Format] = {**_FILE_FORMATS, "tfds": _TFDS, "synthetic": _SYNTHETIC}

_SUFFIXES = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".tsv": "tsv",
    ".tsv.gz": "tsv",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".ndjson": "jsonl",
    ".ndjson.gz": "jsonl",
    ".parquet": "parquet",
}
# What may lie beside the tables of a folder: checksums, and a data.toml.
_COMPANIONS = (".crc", ".md5", ".sha1", ".sha256", ".sha512", ".toml")
_KINDS = ".csv, .tsv, .jsonl (plain or .gz) or .parquet"


def open_source(spec: str, tfds_manual_dir: Path | None = None) -> Source:
    """Finds the files of a source and reads its columns' names.

    Args:
      spec: a CSV, TSV, JSON lines or Parquet file, a folder or a glob of files of one format, `tfds:NAME[/CONFIG]`,
        or `synthetic:[key=value,…]`.
      tfds_manual_dir: a folder with the archives that TFDS would download.

    Raises:
      SourceError: the source is missing, of no known format, or names no columns.
      ConfigError: an option of the generator is wrong.
    """
    if spec.startswith(tfds.PREFIX):
        return _TFDS.open(spec, tfds_manual_dir)
    if spec.startswith(SYNTHETIC_PREFIX):
        return _SYNTHETIC.open(spec)
    files = _files(spec)
    formats = {_format(file.name) for file in files}
    if len(formats) > 1:
        raise SourceError(f"{spec} mixes {', '.join(sorted(map(str, formats)))}: expected files of one format")
    (format_name,) = formats
    if format_name is None:
        raise SourceError(f"{spec}: expected a name that ends in {_KINDS}, or a folder or glob of such files")
    parts = tuple(Part(format_name, str(file), number) for number, file in enumerate(files))
    return _FILE_FORMATS[format_name].open(spec, parts)


def fingerprint(source: Source) -> str:
    """Returns a text that changes when the content of the source does."""
    parts = [FORMATS[part.format].fingerprint(part) for part in source.parts]
    if source.parts[0].format in _FILE_FORMATS:
        return hashlib.sha256("".join(parts).encode()).hexdigest()
    return parts[0]


def check_columns(source: Source, columns: Sequence[str]) -> None:
    """Looks at every part, so that a mistake is found before the first row is read.

    Raises:
      SourceError: a part lacks a column, or holds it with another type than the first part.
    """
    FORMATS[source.parts[0].format].check(source, columns)


def read_part(part: Part, columns: Sequence[str]) -> Iterator[RawBatch]:
    """Reads the columns of one part, in the order of its rows.

    Raises:
      SourceError: the part lacks a column, or cannot be read to its end.
    """
    return FORMATS[part.format].read(part, columns)


def read_source(source: Source, columns: Sequence[str]) -> Iterator[RawBatch]:
    """Reads the columns of all parts, in their order; every batch has the same types.

    Raises:
      SourceError: as `check_columns` and `read_part`; or there is no row at all.
    """
    check_columns(source, columns)
    return _batches(source, columns)


def _batches(source: Source, columns: Sequence[str]) -> Generator[RawBatch, None, None]:
    is_empty = True
    for part in source.parts:
        for batch in read_part(part, columns):
            is_empty = is_empty and not len(batch.positions) and not batch.refused.num_rows
            yield batch
    if is_empty:
        raise SourceError(f"{source.spec} is empty: expected at least one row")


def head(source: Source, columns: Sequence[str], num_rows: int = 1000) -> pa.Table:
    """Returns the first rows of a source, as many as there are up to `num_rows`; refused ones do not count.

    Raises:
      SourceError: as `read_source`.
    """
    check_columns(source, columns)
    tables: list[pa.Table] = []
    missing = num_rows
    with closing(_batches(source, columns)) as batches:
        for batch in batches:
            tables.append(batch.table.slice(0, missing))
            missing -= tables[-1].num_rows
            if missing == 0:
                break
    return pa.concat_tables(tables)


def _files(spec: str) -> list[Path]:
    """The files that a path, a folder or a glob names, in the order of their names."""
    path = Path(spec)
    if path.is_file():
        return [path]
    if path.is_dir():
        return _tables_in(path)
    if matches := sorted(Path(match) for match in glob.glob(spec) if Path(match).is_file()):  # noqa: PTH207  may be absolute
        return matches
    raise SourceError(f"{spec} is missing: expected a file ({_KINDS}), a folder, a glob, tfds:NAME or synthetic:")


def _tables_in(folder: Path) -> list[Path]:
    """The tables of a folder; beside them may lie the like of _SUCCESS, but nothing that may hold rows."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith((".", "_")))
    if below := [entry.name for entry in entries if entry.is_dir()]:
        raise SourceError(
            f"{folder} holds the folder {below[0]}, which may hold tables, too: expected files alone; move it "
            f'elsewhere, or name the tables by a glob, for example "{folder}/*/*.parquet"'
        )
    found = [file for file in entries if not file.name.lower().endswith(_COMPANIONS)]
    others = [file.name for file in found if _format(file.name) is None]
    if len(others) == len(found):
        raise SourceError(f"{folder} holds no file whose name ends in {_KINDS}")
    if others:
        raise SourceError(
            f"{folder} holds {others[0]}, whose name does not end in {_KINDS}: expected tables alone; "
            "move it elsewhere, or name the tables by a glob"
        )
    return found


def _format(name: str) -> str | None:
    return next((kind for suffix, kind in _SUFFIXES.items() if name.lower().endswith(suffix)), None)
