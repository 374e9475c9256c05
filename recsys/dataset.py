"""Opens a DATASET directory: its manifest, and its user and item tables. Imports no TensorFlow."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from recsys.artifacts import sha256_of
from recsys.errors import DatasetError
from recsys.schema import FORMAT_VERSION, Feature, Manifest, Schema

Features = dict[str, npt.NDArray[np.int32] | npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Dataset:
    """A complete DATASET directory.

    Attributes:
      path: the directory.
      manifest: the parsed `manifest.json`.
    """

    path: Path
    manifest: Manifest

    @property
    def schema(self) -> Schema:
        """The features of users and items."""
        return self.manifest.schema_

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of `manifest.json`, which itself holds the SHA-256 of every other file."""
        return sha256_of(self.path / "manifest.json")

    @cached_property
    def items(self) -> pa.Table:
        """The catalogue, a row per candidate: `item`, `train_count`, encoded features, `show_…` columns.

        Raises:
          DatasetError: an item comes twice, or the table cannot be read.
        """
        return self._read_entities(self.manifest.items.name, "item")

    @cached_property
    def users(self) -> pa.Table:
        """A row per user: `user` and encoded features.

        Raises:
          DatasetError: a user comes twice, or the table cannot be read.
        """
        return self._read_entities(self.manifest.users.name, "user")

    @cached_property
    def item_features(self) -> Features:
        """The catalogue's features, [num_items] or [num_items, max_length] int32, or float32 where dense."""
        return {f.name: _dense(self.items[f.name], f) for f in self.schema.item_features}

    @cached_property
    def user_features(self) -> Features:
        """The users' features, [num_users] or [num_users, max_length] int32, or float32 where dense."""
        return {f.name: _dense(self.users[f.name], f) for f in self.schema.user_features}

    @cached_property
    def train_counts(self) -> npt.NDArray[np.int64]:
        """Train interactions of each candidate, [num_items] int64."""
        return np.asarray(self.items["train_count"].to_numpy(), dtype=np.int64)

    def vocabulary(self, feature: str) -> list[str]:
        """A feature's known values in the order of their ids."""
        return [str(v) for v in self._read(self.manifest.vocabularies[feature].name)["value"].to_pylist()]

    def shard_paths(self, split: str) -> list[Path]:
        """The files that hold a split's interactions.

        Raises:
          DatasetError: one of them is missing.
        """
        paths = [self.path / shard.name for shard in self.manifest.splits[split]]
        for path in paths:
            if not path.is_file():
                raise DatasetError(f"{path} is missing: expected the shards that manifest.json lists; prepare it again")
        return paths

    def _read_entities(self, name: str, kind: str) -> pa.Table:
        table = self._read(name)
        counts = pc.value_counts(table[kind])
        if len(counts) < len(table):
            twice = next(entry["values"] for entry in counts if entry["counts"].as_py() > 1)
            raise DatasetError(
                f"{self.path / name} holds the {kind} {twice} twice: expected each once; prepare it again"
            )
        return table

    def _read(self, name: str) -> pa.Table:
        try:
            return pq.read_table(self.path / name)
        except (OSError, pa.ArrowInvalid) as error:
            raise DatasetError(f"{self.path / name} cannot be read ({error}); prepare the dataset again") from error


def open_dataset(path: Path) -> Dataset:
    """Opens a DATASET directory.

    Raises:
      DatasetError: it has no manifest, or its format version is not the one this release reads.
    """
    file = path / "manifest.json"
    if not file.is_file():
        raise DatasetError(f"{path} is no dataset: expected {file}; make one with `recsys prepare`")
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        version = raw.get("format_version")
        if version != FORMAT_VERSION:
            raise DatasetError(
                f"{path} has format version {version}: expected {FORMAT_VERSION}; prepare it again with this release"
            )
        return Dataset(path, Manifest.model_validate(raw))
    except (ValidationError, ValueError, AttributeError) as error:
        first_line = str(error).splitlines()[0]
        raise DatasetError(f"{file} is damaged ({first_line}); prepare the dataset again") from error


def _dense(column: pa.ChunkedArray, feature: Feature) -> npt.NDArray[np.int32] | npt.NDArray[np.float32]:
    """A feature as a matrix or vector; a list column is padded with 0 to the feature's width."""
    array = column.combine_chunks()
    if feature.is_dense:
        values = array.flatten() if pa.types.is_fixed_size_list(array.type) else array
        return np.asarray(values.to_numpy(), dtype=np.float32).reshape(-1, feature.max_length)
    if not feature.is_bag:
        return np.asarray(array.to_numpy(), dtype=np.int32)
    lengths = np.diff(array.offsets.to_numpy())
    dense = np.zeros((len(array), feature.max_length), dtype=np.int32)
    dense[np.arange(feature.max_length) < lengths[:, None]] = array.flatten().to_numpy()
    return dense
