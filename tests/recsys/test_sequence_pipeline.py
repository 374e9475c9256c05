"""Whole train sequences against the dataset's interactions."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from recsys.dataset import Dataset
from recsys.errors import ConfigError
from recsys.interactions import load_interactions, target_counts
from recsys.sequence_pipeline import sequence_feed, training_sequences

BATCH = 32

# User row, and at each position the history's item id and the target's item row.
Sequence = tuple[int, tuple[tuple[int, int], ...]]


def contents(batches: Any) -> list[Sequence]:
    """The sequences that count, in order."""
    return [
        (int(user), tuple(zip(history[weight > 0].tolist(), target[weight > 0].tolist(), strict=True)))
        for batch in batches
        for user, history, target, weight in zip(
            batch["user_row"], batch["history"], batch["item_row"], batch["weight"], strict=True
        )
        if weight.any()
    ]


def read(dataset: Dataset, length: int, seed: int = 0, batch_size: int = BATCH) -> list[Sequence]:
    batches = list(training_sequences(dataset, batch_size, length, seed).as_numpy_iterator())
    assert {batch["history"].shape for batch in batches} == {(batch_size, length)}
    assert all(((batch["history"] > 0) == (batch["weight"] > 0)).all() for batch in batches)
    return contents(batches)


def expected(dataset: Dataset, length: int) -> list[Sequence]:
    """Every user's train items cut from the end, so that windows share one item."""
    loaded = load_interactions(dataset)
    ids = dataset.items["item_id"].to_numpy()
    sequences = []
    for user in set(loaded.user_row[loaded.split == 0].tolist()):
        items = loaded.item_row[(loaded.user_row == user) & (loaded.split == 0)].tolist()
        pairs = [(int(ids[one]), two) for one, two in pairwise(items)]
        while pairs:
            sequences.append((user, tuple(pairs[-length:])))
            pairs = pairs[:-length]
    return sequences


@pytest.mark.parametrize("length", [1, 3, 500])
def test_every_train_item_but_a_user_s_first_is_a_target_once(tiny_dataset: Dataset, length: int) -> None:
    assert sorted(read(tiny_dataset, length)) == sorted(expected(tiny_dataset, length))


@pytest.mark.parametrize("length", [3, 500])
def test_what_fills_up_the_last_batch_weighs_nothing(tiny_dataset: Dataset, length: int) -> None:
    number = len(expected(tiny_dataset, length))
    batches = training_sequences(tiny_dataset, BATCH, length, seed=0)
    weight = np.concatenate([batch["weight"].any(axis=1) for batch in batches.as_numpy_iterator()])
    assert number % BATCH
    assert weight.tolist() == [True] * number + [False] * (-number % BATCH)
    assert len(batches) == len(weight) // BATCH


def test_features_are_those_of_the_users_and_the_targets(tiny_dataset: Dataset) -> None:
    (batch, *_) = training_sequences(tiny_dataset, BATCH, 5, seed=0).as_numpy_iterator()
    for name, table in tiny_dataset.user_features.items():
        np.testing.assert_array_equal(batch[name], table[batch["user_row"]])
    for name, table in tiny_dataset.item_features.items():
        np.testing.assert_array_equal(batch[name], table[batch["item_row"]])
    chosen = training_sequences(tiny_dataset, BATCH, 5, seed=0, features=["user_id"]).element_spec
    assert sorted(chosen) == ["history", "item_row", "user_id", "user_row", "weight"]


def test_epochs_differ_and_seeds_repeat_them(tiny_dataset: Dataset) -> None:
    batches = training_sequences(tiny_dataset, BATCH, 5, seed=1)
    first, second = ([batch["user_row"].tolist() for batch in batches.as_numpy_iterator()] for _ in range(2))
    assert first != second
    assert read(tiny_dataset, 5, seed=1) == read(tiny_dataset, 5, seed=1) != read(tiny_dataset, 5, seed=2)


def test_an_iterator_resumes_at_the_next_batch(tiny_dataset: Dataset, tmp_path: Path) -> None:
    iterator = iter(training_sequences(tiny_dataset, BATCH, 5, seed=0).repeat(2))
    next(iterator)
    saved = tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "state"))
    rest = [batch["history"].numpy().tolist() for batch in iterator]
    again = iter(training_sequences(tiny_dataset, BATCH, 5, seed=0).repeat(2))
    tf.train.Checkpoint(iterator=again).restore(saved).assert_consumed()
    assert [batch["history"].numpy().tolist() for batch in again] == rest


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_share_the_sequences_and_take_equally_many_steps(tiny_dataset: Dataset, workers: int) -> None:
    """Each worker has two replicas."""
    found, lengths = [], set()
    for worker in range(workers):
        context = tf.distribute.InputContext(workers, worker, 2 * workers)
        batches = training_sequences(tiny_dataset, 12 * workers, 5, 0, context)
        yielded = list(batches.as_numpy_iterator())
        assert {batch["history"].shape for batch in yielded} == {(6, 5)}
        lengths.add((len(batches), len(yielded)))
        found += contents(yielded)
    assert len(lengths) == 1
    assert sorted(found) == sorted(expected(tiny_dataset, 5))


def test_a_feed_s_epoch_is_all_sequences(tiny_dataset: Dataset) -> None:
    feed = sequence_feed(tf.distribute.get_strategy(), tiny_dataset, BATCH, 5, seed=0)
    iterator = iter(feed.batches)
    for _ in range(2):
        batches = [{n: t.numpy() for n, t in next(iterator).items()} for _ in range(feed.steps_per_epoch)]
        assert sorted(contents(batches)) == sorted(expected(tiny_dataset, 5))


def test_a_dataset_without_pairs_is_refused(tiny_dataset: Dataset) -> None:
    class Lonely:
        """The dataset, were every user's train count 1."""

        users = tiny_dataset.users.set_column(
            tiny_dataset.users.column_names.index("train_count"),
            "train_count",
            [np.ones(tiny_dataset.users.num_rows, np.int64)],
        )
        manifest = tiny_dataset.manifest

    with pytest.raises(ConfigError) as error:
        training_sequences(Lonely(), BATCH, 5, seed=0)  # type: ignore[arg-type]
    assert str(error.value) == "no user has two train interactions: expected some for train.examples = 'sequences'"


@pytest.mark.parametrize("length", [3, 500])
def test_targets_are_counted_as_an_epoch_has_them(tiny_dataset: Dataset, length: int) -> None:
    items = [item for _, pairs in read(tiny_dataset, length) for _, item in pairs]
    counts = target_counts(load_interactions(tiny_dataset), "sequences")
    np.testing.assert_array_equal(counts, np.bincount(items, minlength=tiny_dataset.items.num_rows))
    for examples in ("interactions", "sets"):
        of_all = target_counts(load_interactions(tiny_dataset), examples)
        np.testing.assert_array_equal(of_all, tiny_dataset.train_counts)
    assert counts.sum() < tiny_dataset.train_counts.sum()
