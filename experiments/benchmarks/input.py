"""`recsys bench input`: examples/s of the input pipeline against per-example records.

All ways read the same rows from the page cache, shuffle them and yield batches of the same features. `tfds_style` is
what tutorials do: TFDS reads and parses record by record, then `map`, `shuffle(100_000)`, `batch`. `parse_example`
reads the same records, and parses a batch at once; `parse_example_history` is the same with each row's history as a
further feature.
"""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import tensorflow as tf
import tensorflow_datasets as tfds

from data_prep.config import DataConfig
from data_prep.pipeline import prepare
from experiments.benchmarks.harness import Pairs, Report, Way, pairs_table, time_pairs
from recsys.dataset import Dataset, open_dataset
from recsys.input_pipeline import training_batches
from recsys.schema import HISTORY, ITEM_ID, USER_ID

BATCH_SIZE = 4096
HISTORY_LENGTH = 20
SHUFFLE_BUFFER = 100_000
_SHARDS = 8
_ROWS_PER_USER = 50
_ITEMS = 20_000

_Features = tuple[str, ...]
_Peer = Callable[[Path, _Features], tf.data.Dataset]


def measure(rows: int = 1_000_000, repeats: int = 3) -> Report:
    """Prepares random interactions, four fifths of which are trained on, and times passes over those."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = _prepared(Path(folder), rows)
        pairs = _timed(dataset, (USER_ID, ITEM_ID), {"tfds_style": tfds_style, "parse_example": parse_example}, repeats)
        pairs |= _timed(dataset, (USER_ID, ITEM_ID, HISTORY), {"parse_example_history": parse_example}, repeats)
    title = (
        f"{dataset.manifest.num_rows('train'):,} train rows in batches of {BATCH_SIZE:,}, {repeats} pairs; "
        f"user and item id, with _history also the latest {HISTORY_LENGTH} items"
    )
    return Report({name: pair.ratio for name, pair in pairs.items()}, [pairs_table(title, "examples", pairs)])


def _timed(dataset: Dataset, features: _Features, peers: Mapping[str, _Peer], repeats: int) -> dict[str, Pairs]:
    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder)
        total = _write_records(dataset, features, records)

        def way(batches: tf.data.Dataset) -> Way:
            return _Pass(batches, features, total)

        ours = way(training_batches(dataset, BATCH_SIZE, seed=1, features=features))
        return time_pairs(ours, {name: way(peer(records, features)) for name, peer in peers.items()}, repeats)


def _prepared(folder: Path, rows: int) -> Dataset:
    rng = np.random.default_rng(0)
    item = (_ITEMS * rng.random(rows) ** 3).astype(np.int64)
    frame = pd.DataFrame(
        {
            "user_id": [f"u{user}" for user in rng.integers(1 + rows // _ROWS_PER_USER, size=rows)],
            "item_id": [f"i{number}" for number in item],
            "timestamp": 1_700_000_000 + np.arange(rows),
        }
    )
    frame.to_parquet(folder / "rows.parquet")
    prepare(str(folder / "rows.parquet"), DataConfig(history_length=HISTORY_LENGTH), folder / "dataset")
    return open_dataset(folder / "dataset")


def _write_records(dataset: Dataset, features: _Features, folder: Path) -> int:
    """Writes the train rows as a TFDS dataset, an example each; returns the sum of all their ids."""
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name="rows", split="train", filetype_suffix="tfrecord"
    )
    paths = [template.sharded_filepath(shard_index=shard, num_shards=_SHARDS) for shard in range(_SHARDS)]
    writers = [tf.io.TFRecordWriter(str(path)) for path in paths]
    lengths = [0] * _SHARDS
    total = 0
    for number, batch in enumerate(training_batches(dataset, BATCH_SIZE, 0, features=features).as_numpy_iterator()):
        members = batch["weight"] > 0
        columns = {name: batch[name][members].reshape(members.sum(), -1) for name in features}
        total += sum(int(column.sum(dtype=np.int64)) for column in columns.values())
        lengths[number % _SHARDS] += int(members.sum())
        for row in range(members.sum()):
            writers[number % _SHARDS].write(_example({name: column[row] for name, column in columns.items()}))
    for writer in writers:
        writer.close()
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=tfds.features.FeaturesDict({name: _tfds_feature(name) for name in features}),
        split_infos=[tfds.core.SplitInfo("train", lengths, num_bytes=0, filename_template=template)],
    )
    return total


def _example(values: dict[str, npt.NDArray[np.int32]]) -> bytes:
    features = {name: tf.train.Feature(int64_list=tf.train.Int64List(value=ids)) for name, ids in values.items()}
    return bytes(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def _tfds_feature(name: str) -> tfds.features.FeatureConnector:
    shape = (HISTORY_LENGTH,) if name == HISTORY else ()
    return tfds.features.Tensor(shape=shape, dtype=np.int64)


def tfds_style(records: Path, features: _Features) -> tf.data.Dataset:
    """What tutorials do, prefetched; TFDS itself reads files and parses records in parallel."""
    ratings = tfds.builder_from_directory(records).as_dataset(split="train", shuffle_files=True)
    return (
        ratings.map(lambda row: {name: row[name] for name in features})
        .shuffle(SHUFFLE_BUFFER)
        .batch(BATCH_SIZE)
        .prefetch(tf.data.AUTOTUNE)
    )


def parse_example(records: Path, features: _Features) -> tf.data.Dataset:
    """The best of per-example records: serialized examples are shuffled and parsed a batch at once, in parallel."""
    spec = {name: tf.io.FixedLenFeature([HISTORY_LENGTH] if name == HISTORY else [], tf.int64) for name in features}
    paths = sorted(str(path) for path in records.glob("*.tfrecord-*"))
    return (
        tf.data.Dataset.from_tensor_slices(paths)
        .shuffle(len(paths))
        .interleave(tf.data.TFRecordDataset, cycle_length=len(paths), num_parallel_calls=tf.data.AUTOTUNE)
        .shuffle(SHUFFLE_BUFFER)
        .batch(BATCH_SIZE)
        .map(lambda rows: tf.io.parse_example(rows, spec), num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )


class _Pass:
    """Takes all batches in a graph, as training does, and returns how many rows they had.

    The first pass, which warms up, also compares the rows with those that were written, by the sum of all ids. Later
    ones only count them, to time the pipeline and not its consumer.
    """

    def __init__(self, batches: tf.data.Dataset, features: _Features, total: int) -> None:
        self._batches, self._features, self._total = batches, features, total
        self._checked = False

    def __call__(self) -> int:
        if not self._checked:
            ids = int(self._batches.reduce(tf.constant(0, tf.int64), lambda sum_, batch: sum_ + self._sum(batch)))
            if ids != self._total:
                raise RuntimeError(f"the ids add up to {ids:,}: expected {self._total:,}, as those that were written")
            self._checked = True
        return int(self._batches.reduce(0, lambda rows, batch: rows + _num_rows(batch)))

    def _sum(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        """The sum of all ids, int64, but for what fills up the last batch, at its end."""
        rows = _num_rows(batch)
        return tf.add_n([tf.reduce_sum(tf.cast(batch[name][:rows], tf.int64)) for name in self._features])


def _num_rows(batch: dict[str, tf.Tensor]) -> tf.Tensor:
    weight = batch.get("weight")
    return tf.size(batch[USER_ID]) if weight is None else tf.math.count_nonzero(weight, dtype=tf.int32)
