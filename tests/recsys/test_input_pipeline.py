"""Training batches against the source's own rows."""

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import tensorflow as tf

from data_prep.config import load_data_config
from data_prep.pipeline import prepare
from data_prep.synthetic import generate, parse_options
from recsys.dataset import Dataset, open_dataset
from recsys.input_pipeline import training_batches

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
    frame = generate(parse_options(SOURCE))
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
        "user_id": (BATCH,),
        "history": (BATCH, 30),
        "item_id": (BATCH,),
        "category": (BATCH,),
        "genres": (BATCH, 3),
        "title_words": (BATCH, 4),
    }
    assert {name for name, part in spec.items() if part.dtype != tf.int32} == {"weight"}
    assert spec["weight"].dtype == tf.float32


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
