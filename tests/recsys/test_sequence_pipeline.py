"""Whole train sequences against the dataset's interactions."""

import numpy as np
import pytest
import tensorflow as tf

from recsys.dataset import Dataset
from recsys.interactions import load_interactions
from recsys.sequence_pipeline import training_sequences

BATCH = 32


def read(dataset: Dataset, length: int, seed: int = 0, batch_size: int = BATCH) -> list[tuple[int, list[int]]]:
    """User row and items of every sequence that counts, in order."""
    batches = list(training_sequences(dataset, batch_size, length, seed).as_numpy_iterator())
    assert {batch["items"].shape for batch in batches} == {(batch_size, length)}
    return [
        (int(user), items.tolist())
        for batch in batches
        for user, items, weight in zip(batch["user_row"], batch["items"], batch["weight"], strict=True)
        if weight
    ]


@pytest.mark.parametrize("length", [3, 500])
def test_every_user_comes_once_with_the_latest_train_items(tiny_dataset: Dataset, length: int) -> None:
    loaded = load_interactions(tiny_dataset)
    ids = tiny_dataset.items["item_id"].to_numpy()
    expected = {}
    for user in set(loaded.user_row[loaded.split == 0].tolist()):
        mine = ids[loaded.item_row[(loaded.user_row == user) & (loaded.split == 0)]].tolist()[-length:]
        expected[user] = mine + [0] * (length - len(mine))
    sequences = read(tiny_dataset, length)
    assert len(sequences) == len(expected)
    assert dict(sequences) == expected


def test_what_fills_up_the_last_batch_weighs_nothing(tiny_dataset: Dataset) -> None:
    users = int((tiny_dataset.users["train_count"].to_numpy() > 0).sum())
    batches = training_sequences(tiny_dataset, BATCH, 5, seed=0)
    weight = np.concatenate([batch["weight"] for batch in batches.as_numpy_iterator()])
    assert users % BATCH
    assert weight.tolist() == [1] * users + [0] * (-users % BATCH)
    assert len(batches) == len(weight) // BATCH


def test_epochs_differ_and_seeds_repeat_them(tiny_dataset: Dataset) -> None:
    batches = training_sequences(tiny_dataset, BATCH, 5, seed=1)
    first, second = ([batch["user_row"].tolist() for batch in batches.as_numpy_iterator()] for _ in range(2))
    assert first != second
    assert read(tiny_dataset, 5, seed=1) == read(tiny_dataset, 5, seed=1) != read(tiny_dataset, 5, seed=2)


def test_an_iterator_resumes_at_the_next_batch(tiny_dataset: Dataset, tmp_path: pytest.TempPathFactory) -> None:
    iterator = iter(training_sequences(tiny_dataset, BATCH, 5, seed=0).repeat(2))
    next(iterator)
    saved = tf.train.Checkpoint(iterator=iterator).save(str(tmp_path) + "/state")
    rest = [batch["items"].numpy().tolist() for batch in iterator]
    again = iter(training_sequences(tiny_dataset, BATCH, 5, seed=0).repeat(2))
    tf.train.Checkpoint(iterator=again).restore(saved).assert_consumed()
    assert [batch["items"].numpy().tolist() for batch in again] == rest
