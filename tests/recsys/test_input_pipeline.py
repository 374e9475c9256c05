"""Training batches against the source's own rows."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import tensorflow as tf

from data_prep.config import DataConfig
from data_prep.pipeline import prepare
from data_prep.schema_files import load_data_config
from data_prep.sources import open_source, read_source
from recsys import block_shuffle
from recsys.blocks import decode_rows, read_blocks
from recsys.config import RuntimeConfig
from recsys.dataset import Dataset, open_dataset
from recsys.distribution import make_strategy
from recsys.errors import ConfigError, DatasetError
from recsys.input_pipeline import training_batches, training_feed

BATCH = 256
# More train blocks than the eight files that they are divided into.
SOURCE = "synthetic:users=300,items=1200,interactions=24000"

Batch = dict[str, npt.NDArray[np.generic]]


def epoch(batches: tf.data.Dataset) -> list[Batch]:
    return list(batches.as_numpy_iterator())


def pairs(batches: list[Batch]) -> list[tuple[int, int]]:
    """The (user row, item row) of every row that counts."""
    return [
        (int(user), int(item))
        for batch in batches
        for user, item, weight in zip(batch["user_row"], batch["item_row"], batch["weight"], strict=True)
        if weight
    ]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("input") / "dataset"
    prepare(SOURCE, load_data_config(None, SOURCE), path)
    return open_dataset(path)


@pytest.fixture(scope="module")
def source(dataset: Dataset) -> pd.DataFrame:
    """All interactions as the generator made them, with rows of the dataset's tables; nobody takes an item twice."""
    columns = ["user_id", "item_id", "timestamp", "rating"]
    frame = pd.concat([batch.table.to_pandas() for batch in read_source(open_source(SOURCE), columns)])
    frame = frame.drop_duplicates(["user_id", "item_id"], ignore_index=True)
    for kind, table in (("user", dataset.users), ("item", dataset.items)):
        rows = {value: row for row, value in enumerate(table[kind].to_pylist())}
        frame[f"{kind}_row"] = frame[f"{kind}_id"].map(rows)
    return frame


@pytest.fixture(scope="module")
def first_epoch(dataset: Dataset) -> list[Batch]:
    return epoch(training_batches(dataset, BATCH, seed=1))


def test_every_train_row_comes_once_per_epoch(dataset: Dataset, source: pd.DataFrame, first_epoch: list[Batch]) -> None:
    train = source[source["timestamp"] < dataset.manifest.split_rule.validation_start]
    assert Counter(pairs(first_epoch)) == Counter(zip(train["user_row"], train["item_row"], strict=True))


def test_the_last_batch_is_filled_up_with_rows_of_weight_0(dataset: Dataset, first_epoch: list[Batch]) -> None:
    num_rows = dataset.manifest.num_rows("train")
    weight = np.concatenate([batch["weight"] for batch in first_epoch])
    assert 0 < num_rows % BATCH
    assert len(weight) == -(-num_rows // BATCH) * BATCH
    assert weight.tolist() == [1] * num_rows + [0] * (len(weight) - num_rows)
    assert len(training_batches(dataset, BATCH, seed=1)) == len(first_epoch)


@pytest.mark.parametrize("batch_size", [7, 100_000])
def test_any_batch_size_gives_the_same_rows(dataset: Dataset, first_epoch: list[Batch], batch_size: int) -> None:
    batches = epoch(training_batches(dataset, batch_size, seed=1))
    assert len(batches) == -(-dataset.manifest.num_rows("train") // batch_size)
    assert Counter(pairs(batches)) == Counter(pairs(first_epoch))


def test_shapes_are_static_and_nothing_is_a_string(dataset: Dataset) -> None:
    spec = training_batches(dataset, BATCH, seed=1).element_spec
    assert {name: tuple(part.shape) for name, part in spec.items()} == {
        "user_row": (BATCH,),
        "item_row": (BATCH,),
        "weight": (BATCH,),
        "label": (BATCH,),
        "user_id": (BATCH,),
        "history": (BATCH, 30),
        "item_id": (BATCH,),
        "category": (BATCH,),
        "genres": (BATCH, 3),
        "title_words": (BATCH, 4),
    }
    assert {name for name, part in spec.items() if part.dtype == tf.float32} == {"weight", "label"}
    assert {part.dtype for part in spec.values()} == {tf.float32, tf.int32}


@pytest.mark.parametrize("source_spec", [SOURCE, "synthetic:users=50,items=100,interactions=1000"])
def test_epochs_differ_and_seeds_repeat_them(tmp_path: Path, source_spec: str) -> None:
    """Also within the only block of a small dataset, where the order of files and blocks has no say."""
    prepare(source_spec, load_data_config(None, source_spec), tmp_path / "dataset")
    opened = open_dataset(tmp_path / "dataset")

    def two_epochs(seed: int) -> list[list[tuple[int, int]]]:
        batches = training_batches(opened, BATCH, seed)
        return [pairs(epoch(batches)) for _ in range(2)]

    ours, again, other = two_epochs(1), two_epochs(1), two_epochs(2)
    assert ours == again
    assert ours[0] != ours[1]
    assert ours[0] != other[0]
    assert ours[1] != other[1]


def test_histories_are_the_users_latest_earlier_items(
    dataset: Dataset, source: pd.DataFrame, first_epoch: list[Batch]
) -> None:
    time_of = {(row.user_row, row.item_row): row.timestamp for row in source.itertuples()}
    taken = {user: rows.sort_values(["timestamp", "item_row"]) for user, rows in source.groupby("user_row")}
    item_id = dataset.item_features["item_id"]
    lengths = set()
    for batch in first_epoch[:3]:
        for row in range(BATCH):
            user, item = int(batch["user_row"][row]), int(batch["item_row"][row])
            before = taken[user].loc[taken[user]["timestamp"] < time_of[user, item], "item_row"]
            history = item_id[before.to_numpy()[-30:]].tolist()
            assert batch["history"][row].tolist() == history + [0] * (30 - len(history))
            lengths.add(len(history))
    assert {0, 30} <= lengths


def test_labels_are_those_of_the_row(source: pd.DataFrame, first_epoch: list[Batch]) -> None:
    ratings = source.set_index(["user_row", "item_row"])["rating"]
    for batch in first_epoch[:3]:
        rows = list(zip(batch["user_row"], batch["item_row"], strict=True))
        assert batch["label"].tolist() == ratings.loc[rows].tolist()


def test_weights_are_those_of_the_row(tmp_path: Path) -> None:
    """The sum of a pair's weights stands in its row, and the filling of the last batch weighs nothing."""
    rows = pd.DataFrame(
        {"user_id": ["u"] * 9, "item_id": list("aabcdefgh"), "timestamp": range(9), "w": 2.0 ** np.arange(9)}
    )
    rows.to_csv(tmp_path / "rows.csv", index=False)
    config = DataConfig.model_validate(
        {
            "interactions": {"weight": "w"},
            "filters": {"duplicates": "sum"},
            "split": {"validation_start": 7, "test_start": 8},
        }
    )
    prepare(str(tmp_path / "rows.csv"), config, tmp_path / "dataset")
    (batch,) = epoch(training_batches(open_dataset(tmp_path / "dataset"), 8, seed=0))
    assert sorted(batch["weight"].tolist()) == [0, 0, 3, 4, 8, 16, 32, 64]


def test_features_are_those_of_the_row(dataset: Dataset, first_epoch: list[Batch]) -> None:
    batch = first_epoch[0]
    np.testing.assert_array_equal(batch["user_id"], dataset.users["user_id"].to_numpy()[batch["user_row"]])
    np.testing.assert_array_equal(batch["category"], dataset.items["category"].to_numpy()[batch["item_row"]])
    genres = dataset.items["genres"].to_pylist()
    assert [[g for g in row if g] for row in batch["genres"].tolist()] == [genres[i] for i in batch["item_row"]]


def test_a_batch_mixes_rows_of_all_files(dataset: Dataset, first_epoch: list[Batch]) -> None:
    """Files hold users in order: a batch of few files would hold few users, and its mean user would be off."""
    assert len(dataset.shard_paths("train")) == 8
    users = np.concatenate([batch["user_row"] for batch in first_epoch[:-1]]).reshape(-1, BATCH)
    assert (np.abs(users.mean(axis=1) - users.mean()) < 4 * users.std() / np.sqrt(BATCH)).all()
    drawn = np.random.default_rng(0).permutation(users.ravel()).reshape(users.shape)
    distinct, expected = (np.mean([len(set(row)) for row in rows]) for rows in (users.tolist(), drawn.tolist()))
    assert distinct == pytest.approx(expected, rel=0.05)


def blocks_on_disk(path: Path) -> list[list[tuple[int, int]]]:
    """The (user row, item row) of the rows of each block of a shard."""
    blocks = [decode_rows(tf.stack([block])) for block in read_blocks([path])]
    return [
        list(zip(*(block[name].numpy().tolist() for name in ("user_row", "item_row")), strict=True)) for block in blocks
    ]


def rows_on_disk(path: Path) -> list[tuple[int, int]]:
    """The (user row, item row) of a shard's rows."""
    return [row for block in blocks_on_disk(path) for row in block]


def contexts(workers: int, replicas: int) -> list[tf.distribute.InputContext]:
    return [tf.distribute.InputContext(workers, worker, workers * replicas) for worker in range(workers)]


@pytest.mark.parametrize(("workers", "replicas"), [(2, 1), (3, 1), (2, 3)])
def test_workers_share_an_epoch(dataset: Dataset, workers: int, replicas: int) -> None:
    """Each reads every n-th file, every row comes once, and all yield as many batches as the one with most rows."""
    files = [rows_on_disk(path) for path in dataset.shard_paths("train")]
    size = 240 // (workers * replicas)
    steps = max(-(-sum(map(len, files[worker::workers])) // (size * replicas)) for worker in range(workers))
    empty = []
    for worker, context in enumerate(contexts(workers, replicas)):
        batches = training_batches(dataset, 240, 1, context, features=("user_id",))
        assert len(batches) == steps * replicas
        assert {part.shape for part in batches.element_spec.values()} == {(size,)}
        read = epoch(batches)
        assert len(read) == steps * replicas
        assert Counter(pairs(read)) == Counter(row for file in files[worker::workers] for row in file)
        empty.append(sum(not batch["weight"].any() for batch in read))
        assert empty[-1] == steps * replicas - -(-sum(map(len, files[worker::workers])) // size)
    # Three workers have 3, 3 and 2 of the 8 files: the last one fills up.
    assert workers == 2 or empty[2] > max(empty[:2])


def test_workers_shuffle_differently(dataset: Dataset) -> None:
    """The first worker of two, and the only one, do not meet the rows that both have in the same order."""
    first = pairs(epoch(training_batches(dataset, BATCH, 1, contexts(2, 1)[0], features=())))
    only = pairs(epoch(training_batches(dataset, BATCH, 1, features=())))
    own = set(first)
    assert [row for row in only if row in own] != first


def test_more_workers_than_shards_are_refused(dataset: Dataset) -> None:
    with pytest.raises(DatasetError) as error:
        training_batches(dataset, 90, 1, contexts(9, 1)[0])
    assert str(error.value) == (
        f"{dataset.path} has 8 train shards for 9 input workers: expected a shard or more for each; "
        "train with at most 8 workers"
    )


@pytest.mark.parametrize(("batch_size", "advice"), [(256, 255), (2, 3)])
def test_a_batch_that_replicas_cannot_share_is_refused(dataset: Dataset, batch_size: int, advice: int) -> None:
    with pytest.raises(ConfigError) as error:
        training_batches(dataset, batch_size, 1, contexts(3, 1)[0])
    assert str(error.value) == (
        f"batch_size = {batch_size}: expected a multiple of the 3 replicas that share a batch; choose {advice}"
    )


def assert_same_batches(one: list[Batch], other: list[Batch]) -> None:
    for ours, theirs in zip(one, other, strict=True):
        for name, column in ours.items():
            np.testing.assert_array_equal(column, theirs[name])


def test_an_epoch_of_the_feed_has_each_row_once(dataset: Dataset, first_epoch: list[Batch]) -> None:
    feed = training_feed(tf.distribute.get_strategy(), dataset, BATCH, seed=1)
    batches = [
        {name: value.numpy() for name, value in batch.items()} for batch in feed.batches.take(feed.steps_per_epoch)
    ]
    assert sorted(pairs(batches)) == sorted(pairs(first_epoch))


def test_replicas_share_the_batches_of_one(dataset: Dataset) -> None:
    """Also in the second epoch, and from there on; shapes stay static, and a replica's part is on its device."""
    mirrored = make_strategy(RuntimeConfig(strategy="mirrored", logical_cpus=2))
    feed = training_feed(mirrored, dataset, BATCH, seed=1, features=("history",))
    single = training_feed(tf.distribute.get_strategy(), dataset, BATCH, seed=1, features=("history",))
    later = training_feed(tf.distribute.get_strategy(), dataset, BATCH, seed=1, features=("history",), first_epoch=1)
    assert feed.steps_per_epoch == -(-dataset.manifest.num_rows("train") // BATCH)
    for spec in feed.batches.element_spec["history"]._value_specs:
        assert spec.shape == (BATCH // 2, 30)
    epochs = [list(single.batches.take(2 * feed.steps_per_epoch)), list(later.batches.take(feed.steps_per_epoch))]
    assert_same_batches(epochs[0][feed.steps_per_epoch :], epochs[1])
    for shared, whole in zip(feed.batches, epochs[0], strict=False):
        parts = {name: mirrored.experimental_local_results(value) for name, value in shared.items()}
        assert [part.device[-5:] for part in parts["history"]] == ["CPU:0", "CPU:1"]
        for name, value in whole.items():
            np.testing.assert_array_equal(np.concatenate(parts[name]), value)


def test_features_that_are_not_asked_for_are_left_out(dataset: Dataset, first_epoch: list[Batch]) -> None:
    """Without moving a row: the order does not depend on it."""
    batches = epoch(training_batches(dataset, BATCH, seed=1, features=("user_id", "category")))
    assert set(batches[0]) == {"user_row", "item_row", "weight", "user_id", "category"}
    for ours, all_features in zip(batches, first_epoch, strict=True):
        for name, column in ours.items():
            np.testing.assert_array_equal(column, all_features[name])


def test_the_graph_calls_no_python_and_prefetches(dataset: Dataset) -> None:
    batches = training_batches(dataset, BATCH, seed=1)
    endless = training_feed(tf.distribute.get_strategy(), dataset, BATCH, seed=1).batches
    for pipeline in (batches, endless):
        graph = tf.compat.v1.GraphDef.FromString(pipeline._as_serialized_graph().numpy())
        ops = {node.op for function in graph.library.function for node in function.node_def}
        ops |= {node.op for node in graph.node}
        assert not {op for op in ops if "PyFunc" in op}
        assert {"ParseExampleV2", "PrefetchDataset"} <= ops


RESUMED = """
import sys
from pathlib import Path
import recsys
import numpy as np
import tensorflow as tf
from recsys.dataset import open_dataset
from recsys.input_pipeline import training_batches
path, *checkpoints = sys.argv[1:]
tf.random.set_seed(0)
for checkpoint in checkpoints:
    iterator = iter(training_batches(open_dataset(Path(path)), 256, seed=1).repeat(2))
    tf.train.Checkpoint(iterator=iterator).read(checkpoint).assert_consumed()
    rest = list(iterator)
    np.savez(checkpoint + ".npz", **{name: np.stack([batch[name] for batch in rest]) for name in rest[0]})
"""


def test_an_iterator_resumes_at_the_next_batch(dataset: Dataset, tmp_path: Path) -> None:
    """In the first epoch and in a later one; here, and in a process that has drawn nothing yet. Training has a global
    seed, and TensorFlow takes 0, the default, for none in places.
    """
    tf.random.set_seed(0)
    batches = training_batches(dataset, 256, seed=1).repeat(2)
    whole = epoch(batches)
    epoch_length = len(whole) // 2
    positions = (3, epoch_length - 1, epoch_length, epoch_length + 7)
    checkpoints = []
    for position in positions:
        iterator = iter(training_batches(dataset, 256, seed=1).repeat(2))
        for _ in range(position):
            next(iterator)
        checkpoints.append(tf.train.Checkpoint(iterator=iterator).write(str(tmp_path / f"after-{position}")))
    subprocess.run([sys.executable, "-c", RESUMED, str(dataset.path), *checkpoints], check=True)
    for position, checkpoint in zip(positions, checkpoints, strict=True):
        restored = iter(training_batches(dataset, 256, seed=1).repeat(2))
        tf.train.Checkpoint(iterator=restored).read(checkpoint).assert_consumed()
        here = [{name: value.numpy() for name, value in batch.items()} for batch in restored]
        there = np.load(f"{checkpoint}.npz")
        assert len(here) == len(whole) - position
        for name in whole[0]:
            expected = np.stack([batch[name] for batch in whole[position:]])
            np.testing.assert_array_equal(np.stack([batch[name] for batch in here]), expected)
            np.testing.assert_array_equal(there[name], expected)


def chi_square(row: npt.NDArray[np.int64], column: npt.NDArray[np.int64]) -> float:
    """Pearson's statistic of independence of two labels of the same things."""
    observed = np.zeros((row.max() + 1, column.max() + 1))
    np.add.at(observed, (row, column), 1)
    expected = observed.sum(1, keepdims=True) * observed.sum(0, keepdims=True) / observed.sum()
    return float(((observed - expected) ** 2 / expected).sum())


def test_the_shuffle_mixes_the_whole_window_and_all_files(dataset: Dataset, first_epoch: list[Batch]) -> None:
    """All rows are in one window here. Where a row stands in its file order says nothing of where it comes.

    126.1 is exceeded by chance once in a thousand at 81 degrees of freedom, 103.4 at 7 · 9 = 63.
    """
    files = [rows_on_disk(path) for path in dataset.shard_paths("train")]
    place = {row: number for number, row in enumerate(row for file in files for row in file)}
    order = np.array([place[row] for row in pairs(first_epoch)])
    assert len(order) == len(place) < block_shuffle.WINDOW_BLOCKS * 1024
    tenth = np.arange(len(order)) * 10 // len(order)
    assert chi_square(order * 10 // len(order), tenth) < 126.1
    file = np.repeat(np.arange(8), [len(rows) for rows in files])
    assert chi_square(file[order], tenth) < 103.4
    # Neighbours on disk that stay neighbours: one on average (Poisson), more than 7 once in 100,000.
    assert (np.diff(order) == 1).sum() <= 7


def test_a_window_smaller_than_the_epoch_is_mixed_throughout(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 4 blocks: each holds whole blocks of several files, and its first half is like its second."""
    monkeypatch.setattr(block_shuffle, "WINDOW_BLOCKS", 4)
    files = [blocks_on_disk(path) for path in dataset.shard_paths("train")]
    file_of = {row: number for number, file in enumerate(files) for block in file for row in block}
    block_of = {row: (f, b) for f, file in enumerate(files) for b, block in enumerate(file) for row in block}
    rows = pairs(epoch(training_batches(dataset, 1024, seed=1)))
    start, windows = 0, 0
    while start < len(rows):
        blocks = list(dict.fromkeys(block_of[row] for row in rows[start : start + 1024]))
        size = sum(block_of[row] in blocks for row in rows)
        window = rows[start : start + size]
        assert len(blocks) == 4 or start + size == len(rows)
        assert {block_of[row] for row in window} == set(blocks)
        assert len({file_of[row] for row in window}) > 1
        block = np.array([blocks.index(block_of[row]) for row in window])
        # At 3 · 7 = 21 degrees of freedom 46.8 is exceeded once in a thousand.
        assert chi_square(block, np.arange(size) * 8 // size) < 46.8
        start, windows = start + size, windows + 1
    assert windows == -(-len(set(block_of.values())) // 4)


def test_a_shorter_history_holds_the_latest_items(tiny_dataset: Dataset) -> None:
    pairs = zip(
        training_batches(tiny_dataset, 64, seed=0).as_numpy_iterator(),
        training_batches(tiny_dataset, 64, seed=0, history_length=3).as_numpy_iterator(),
        strict=True,
    )
    for whole, short in pairs:
        latest = [row[row > 0][-3:].tolist() for row in whole["history"]]
        assert short["history"].tolist() == [row + [0] * (3 - len(row)) for row in latest]


def test_nothing_is_left_that_an_iterator_would_wait_for_when_it_ends(tiny_dataset: Dataset) -> None:
    """The wait itself comes in two of three `fit`s on an idle machine, too seldom for a test."""
    feed = training_feed(tf.distribute.get_strategy(), tiny_dataset, 64, seed=0)
    for batches in (training_batches(tiny_dataset, 64, seed=0), feed.batches):
        assert batches.options().autotune.enabled is False
