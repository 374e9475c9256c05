"""TensorFlow Datasets, batch by batch."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_prep.formats.batch import Part, RawBatch, Source, require
from data_prep.formats.text import text_batch
from recsys.errors import SourceError

PREFIX = "tfds:"
BATCH_ROWS = 1 << 16


class Tfds:
    """The `train` split of a prepared builder; a part's location is the builder's folder.

    Class labels become their names, bytes text, features of several values lists.
    """

    def open(self, spec: str, manual_dir: Path | None) -> Source:
        """Downloads and prepares what is not yet there."""
        import tensorflow_datasets as tfds  # takes seconds to import, and only this source needs it

        tfds.disable_progress_bar()
        try:
            builder = tfds.builder(spec.removeprefix(PREFIX))
            options = {} if manual_dir is None else {"manual_dir": str(manual_dir)}
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(**options))
        except tfds.core.DatasetNotFoundError as error:
            raise SourceError(
                f"{spec}: no such TensorFlow Datasets builder; `tfds.list_builders()` names them"
            ) from error
        except (OSError, ValueError, tfds.download.DownloadError) as error:
            raise SourceError(
                f"{spec} cannot be downloaded or prepared ({' '.join(str(error).split())}); without a network name "
                "the folder that holds its archive, --tfds-manual-dir DIR"
            ) from error
        return Source(spec, (Part("tfds", str(builder.data_dir), 0),), tuple(builder.info.features))

    def check(self, source: Source, columns: Sequence[str]) -> None:
        """One builder has one set of features."""
        require(source.spec, columns, source.columns)

    def fingerprint(self, part: Part) -> str:
        """Name, version and number of rows."""
        info = _builder(part).info
        return f"{info.full_name}, {info.splits['train'].num_examples} rows"

    def read(self, part: Part, columns: Sequence[str]) -> Iterator[RawBatch]:
        """Reads batch after batch, always in the same order."""
        builder = _builder(part)
        features = builder.info.features
        require(part.location, columns, features)
        rows = builder.as_dataset(split="train").map(lambda row: {name: row[name] for name in columns})
        first_row = 0
        for batch in rows.ragged_batch(BATCH_ROWS).prefetch(1):
            table = pa.table({name: _array(name, batch[name], features[name]) for name in columns})
            yield text_batch(part, table, first_row)
            first_row += table.num_rows


def _builder(part: Part) -> Any:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder_from_directory(part.location)
    except (OSError, ValueError) as error:
        raise SourceError(
            f"{part.location} holds no prepared TensorFlow dataset: expected a folder that every worker can read"
        ) from error


def _array(name: str, values: Any, feature: Any) -> pa.Array:
    """A batch of one feature: a tensor, or a ragged one where its length differs from row to row."""
    element = getattr(feature, "feature", feature)  # of a Sequence; a plain feature is its own element
    if isinstance(values, dict):
        raise SourceError(f"the TFDS feature {name} holds {', '.join(values)}: expected values or lists of values")
    if hasattr(values, "row_splits"):
        splits = values.row_splits.numpy().astype(np.int32)
        return pa.ListArray.from_arrays(splits, _array(name, values.values, element))
    return _dense_array(values.numpy(), getattr(element, "names", None))


def _dense_array(values: npt.NDArray[Any], labels: list[str] | None) -> pa.Array:
    """[num_rows, …] values, text as bytes; class labels are given by their names."""
    if values.ndim > 1:
        splits = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
        return pa.ListArray.from_arrays(splits, _dense_array(values.reshape(-1, *values.shape[2:]), labels))
    if labels is not None:
        return pa.array(labels, pa.string()).take(pa.array(values, mask=values < 0))  # -1 is no label
    return pa.array(values.tolist(), pa.binary()) if values.dtype == object else pa.array(values)
