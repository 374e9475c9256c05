"""Pipelines that follow each other: what one leaves in a working folder, the next reads.

Beam has neither loops nor a way to look at a result while a pipeline is built. Here a program runs a pipeline, looks,
and builds the next. Rows stand in Parquet files between two of them, and numbers in JSON.
"""

import json
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import GoogleCloudOptions, StandardOptions

from data_prep.beam.runner import is_local, open_pipeline, parse_options
from recsys.errors import ConfigError


@dataclass(frozen=True)
class StoredTables:
    """Rows in Parquet files.

    Attributes:
      prefix: what their names begin with.
      schema: their columns.
    """

    prefix: str
    schema: pa.Schema


class Stage:
    """One pipeline, while it is built.

    Attributes:
      pipeline: where transforms begin.
    """

    def __init__(self, pipeline: beam.Pipeline, folder: str) -> None:
        """Takes the pipeline, and the folder for what it stores."""
        self.pipeline, self._folder = pipeline, folder

    def read(self, stored: StoredTables, columns: Sequence[str] | None = None) -> beam.PCollection:
        """PCollection[pa.Table] of what an earlier stage stored."""
        return self.pipeline | f"Read {stored.prefix}" >> beam.io.ReadFromParquetBatched(
            stored.prefix + "*", columns=None if columns is None else list(columns)
        ).with_output_types(pa.Table)

    def store(self, name: str, tables: beam.PCollection, schema: pa.Schema) -> StoredTables:
        """Stores PCollection[pa.Table]; the files are complete when the stage has ended."""
        stored = StoredTables(self.path(name), schema)
        _ = tables | f"Store {name}" >> beam.io.WriteToParquetBatched(
            stored.prefix, schema, codec="zstd", file_name_suffix=".parquet"
        )
        return stored

    def path(self, name: str) -> str:
        """Where this stage stores what is called so."""
        return str(FileSystems.join(self._folder, name))

    def store_value(self, name: str, values: beam.PCollection) -> None:
        """Stores a PCollection of one small element, made of what JSON knows, for `Stages.value`."""
        _ = values | f"Store {name}" >> beam.Map(_write_json, _value_file(self._folder, name))


class Stages:
    """Runs pipelines one after another, with the same options."""

    def __init__(self, options: Sequence[str], folder: str) -> None:
        """Takes Beam's options as on a command line, and a folder that every worker sees."""
        self._options, self._folder = tuple(options), folder
        self._names: set[str] = set()

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Builds a pipeline in the block; it runs at the end of the block."""
        if name in self._names:
            raise ValueError(f"there is a stage {name} already: expected another name")
        self._names.add(name)
        with open_pipeline(self._options) as pipeline:
            yield Stage(pipeline, FileSystems.join(self._folder, name))

    def path(self, name: str) -> str:
        """Where the driver stores what is called so, for workers to see."""
        return str(FileSystems.join(self._folder, name))

    def value(self, stage: str, name: str) -> Any:
        """What `Stage.store_value` stored in a stage that has ended."""
        with FileSystems.open(_value_file(FileSystems.join(self._folder, stage), name)) as file:
            return json.loads(file.read())


@contextmanager
def open_stages(options: Sequence[str]) -> Iterator[Stages]:
    """Stages in a working folder of their own, which is removed at the end.

    It lies below Beam's `--temp_location`, or without one in this machine's folder for temporary files.

    Raises:
      ConfigError: an option is unknown, or workers on other machines could not see the folder.
    """
    parsed = parse_options(options)
    location = parsed.view_as(GoogleCloudOptions).temp_location
    if location is not None:
        folder = FileSystems.join(location, f"recsys-{uuid.uuid4().hex}")
        FileSystems.mkdirs(folder)
    elif is_local(parsed):
        folder = tempfile.mkdtemp(prefix="recsys-")
    else:
        raise ConfigError(
            f"--runner {parsed.view_as(StandardOptions).runner} needs --temp_location, a folder that all its workers "
            "see, such as gs://bucket/folder"
        )
    try:
        yield Stages(options, folder)
    finally:
        FileSystems.delete([folder])


def _write_json(value: Any, path: str) -> None:
    with FileSystems.create(path) as file:
        file.write(json.dumps(value).encode())


def _value_file(folder: str, name: str) -> str:
    return str(FileSystems.join(folder, f"{name}.json"))
