"""Converts the query tower, compares it with the original, and writes it with what a client must know."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import tensorflow as tf

from recsys.artifacts import write_json
from recsys.dataset import Dataset, Features
from recsys.errors import BundleError
from recsys.schema import HISTORY
from recsys.towers import Towers
from serving.bundle import CANDIDATES, EXTRA
from serving.query_tower import onnx, tflite

_NAME = "query_tower"
_USERS = "users.parquet"
_LARGEST_FILE_BYTES = 2**31 - 1  # of protocol buffers and of flat buffers
_SMALLEST_COSINE = 0.999
_LARGEST_DIFFERENCE = 1e-5

FormatName = Literal["tflite", "onnx"]
Embeddings = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TowerFile:
    """A converted query tower that agrees with the original.

    Attributes:
      name: of the file.
      content: its bytes.
      agreement: what was measured, by name.
    """

    name: str
    content: bytes
    agreement: dict[str, float]


@dataclass(frozen=True)
class _Format:
    title: str
    bytes_per_weight: int
    convert: Callable[[tf.keras.Model], bytes]
    embed: Callable[[bytes, Features], Embeddings]
    compare: Callable[[Embeddings, Embeddings], tuple[str, float]]
    agrees: Callable[[float], bool]
    expected: str


def require(formats: Sequence[FormatName]) -> None:
    """Refuses formats whose packages are not installed, before any work is done for them.

    Raises:
      ConfigError: one is not.
    """
    if "onnx" in formats:
        onnx.require()


def convert_tower(
    make_tower: Callable[[], tf.keras.Model], features: Features, expected: Embeddings, formats: Sequence[FormatName]
) -> list[TowerFile]:
    """Converts a query tower, and asks what came of it the same queries.

    Args:
      make_tower: builds a portable one, which is then changed.
      features: of real queries; what the tower does not use is ignored.
      expected: what the original answers to them, [num_queries, embedding_dim] float32.
      formats: what to convert it to.

    Raises:
      BundleError: it cannot be converted, or answers otherwise then.
    """
    return [_converted(name, _FORMATS[name], make_tower(), features, expected) for name in formats]


def write_tower_files(files: Sequence[TowerFile], towers: Towers, dataset: Dataset, folder: Path) -> None:
    """Writes converted towers, how to ask them, and the inputs of every known user; nothing where there are none.

    Args:
      files: as `convert_tower` gives them.
      towers: what they were made of.
      dataset: what that was trained on.
      folder: the bundle's.
    """
    if not files:
        return
    for file in files:
        (folder / EXTRA / file.name).write_bytes(file.content)
    from_users = [name for name in towers.query_inputs if name != HISTORY]
    if from_users:
        pq.write_table(dataset.users.select(["user", *from_users]), folder / EXTRA / _USERS)
    write_json(folder / EXTRA / f"{_NAME}.json", _description(files, towers, dataset))


def _converted(
    name: FormatName, form: _Format, tower: tf.keras.Model, features: Features, expected: Embeddings
) -> TowerFile:
    size = tower.count_params() * form.bytes_per_weight
    if size > _LARGEST_FILE_BYTES:
        raise BundleError(
            f"the query tower takes {size:,} bytes as {form.title}: expected at most {_LARGEST_FILE_BYTES:,}, which is "
            f"all that such a file holds; leave --{name} away, or train without the users' ids (model.query.use_id)"
        )
    content = form.convert(tower)
    found = form.embed(content, {input_name: features[input_name] for input_name in tower.input})
    measure, value = form.compare(found, expected)
    if not form.agrees(value):  # NaN neither
        raise BundleError(
            f"the query tower answers otherwise as {form.title}: expected {form.expected} on {len(expected):,} "
            f"held-out queries, received {value:.6g}; leave --{name} away"
        )
    return TowerFile(f"{_NAME}.{name}", content, {measure: value, "queries": len(expected)})


def _smallest_cosine(found: Embeddings, expected: Embeddings) -> tuple[str, float]:
    """Of each query's two embeddings; where both are zeros they agree."""
    one, other = found.astype(np.float64), expected.astype(np.float64)
    both_are_zeros = ~(one.any(axis=1) | other.any(axis=1))
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosines = np.where(both_are_zeros, 1.0, (one * other).sum(axis=1) / np.where(lengths == 0, 1.0, lengths))
    return "smallest_cosine", float(cosines.min())


def _largest_difference(found: Embeddings, expected: Embeddings) -> tuple[str, float]:
    return "largest_difference", float(np.abs(found.astype(np.float64) - expected).max())


_FORMATS: dict[FormatName, _Format] = {
    "tflite": _Format(
        title="TFLite in int8",
        bytes_per_weight=1,
        convert=tflite.convert,
        embed=tflite.embed,
        compare=_smallest_cosine,
        agrees=lambda cosine: cosine >= _SMALLEST_COSINE,
        expected=f"cosines of {_SMALLEST_COSINE} or more",
    ),
    "onnx": _Format(
        title="ONNX",
        bytes_per_weight=4,
        convert=onnx.convert,
        embed=onnx.embed,
        compare=_largest_difference,
        agrees=lambda difference: difference <= _LARGEST_DIFFERENCE,
        expected=f"numbers that differ by {_LARGEST_DIFFERENCE} or less",
    ),
}


def _description(files: Sequence[TowerFile], towers: Towers, dataset: Dataset) -> dict[str, Any]:
    """What `query_tower.json` says; docs/guides/devices.md explains it."""
    features = {feature.name: feature for feature in dataset.schema.user_features}
    inputs = {}
    for name, tensor in towers.query.input.items():
        is_history = name == HISTORY
        inputs[name] = {
            "dtype": tensor.dtype.name,
            "shape": tensor.shape[1:].as_list(),
            "num_oov": (dataset.schema.item_id if is_history else features[name]).num_oov,
            "from": CANDIDATES.removeprefix(f"{EXTRA}/") if is_history else _USERS,
        }
    return {
        "inputs": inputs,
        "output": {"name": "embedding", "dtype": "float32", "shape": [towers.query.output_shape[-1]]},
        "agreement": {file.name: file.agreement for file in files},
    }
