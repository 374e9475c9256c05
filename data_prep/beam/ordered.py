"""Rows in an order, stored for the driver, which reads them as a stream."""

import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfileobj

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems

from data_prep.beam.stages import Stage
from data_prep.beam.tables import TableCoder


@dataclass(frozen=True)
class OrderedTables:
    """Files whose names stand in the order of their rows, which begin with `prefix`."""

    prefix: str

    def __iter__(self) -> Iterator[pa.Table]:
        """Reads one file after another."""
        [match] = FileSystems.match([self.prefix + "-*"])
        for path in sorted(metadata.path for metadata in match.metadata_list):
            with FileSystems.open(path) as file:
                yield TableCoder().decode(file.read())


def store_ordered(stage: Stage, name: str, tables: beam.PCollection, rank_column: str) -> OrderedTables:
    """Stores PCollection[pa.Table], each a run of consecutive ranks, with the types of its columns as they are."""
    stored = OrderedTables(stage.path(name))
    _ = tables | f"Store {name}" >> beam.Map(_store, stored.prefix, rank_column)
    return stored


def publish(path: str, write: Callable[[Path], None]) -> None:
    """Lets `write` make a file on this machine, and puts it at `path`, where it is seen whole or not at all."""
    aside = f"{path.rpartition('/')[0]}/.{uuid.uuid4().hex}"
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "file"
        write(local)
        with local.open("rb") as source, FileSystems.create(aside) as target:
            copyfileobj(source, target)
    FileSystems.rename([aside], [path])


def fetch(path: str, target: Path) -> None:
    """Copies a file that workers stored."""
    with FileSystems.open(path) as source, target.open("wb") as file:
        copyfileobj(source, file)


def _store(table: pa.Table, prefix: str, rank_column: str) -> None:
    if table.num_rows:
        encoded = TableCoder().encode(table)
        publish(f"{prefix}-{table[rank_column][0].as_py():020d}", lambda path: _write(path, encoded))


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
