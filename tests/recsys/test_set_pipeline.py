"""Train sets against the dataset's interactions."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from data_prep.config import DataConfig
from data_prep.pipeline import prepare
from recsys.dataset import Dataset, open_dataset
from recsys.interactions import load_interactions
from recsys.set_pipeline import MAX_TARGETS, set_feed, training_sets

BATCH = 32

# User row, item rows that are shown in their order, item rows that are hidden.
Set = tuple[int, list[int], list[int]]
Batch = dict[str, npt.NDArray[Any]]


def contents(dataset: Dataset, batches: Any) -> list[Set]:
    """The sets of all batches in order, what fills up included."""
    row_of_id = {int(item_id): row for row, item_id in enumerate(dataset.item_features["item_id"])}
    return [
        (int(user), [row_of_id[item] for item in history[history > 0].tolist()], target[weight > 0].tolist())
        for batch in batches
        for user, history, target, weight in zip(
            batch["user_row"], batch["history"], batch["item_row"], batch["weight"], strict=True
        )
    ]


def read(dataset: Dataset, length: int, hidden: float = 0.5, seed: int = 0) -> list[Set]:
    batches = list(training_sets(dataset, BATCH, length, hidden, seed).as_numpy_iterator())
    assert {batch["history"].shape for batch in batches} == {(BATCH, length)}
    assert {batch["item_row"].shape for batch in batches} == {(BATCH, MAX_TARGETS)}
    return [found for found in contents(dataset, batches) if found[1] or found[2]]


def expected(dataset: Dataset, length: int) -> list[tuple[int, list[int]]]:
    """Every user's train items, cut from the end."""
    loaded = load_interactions(dataset)
    sets = []
    for user in range(dataset.users.num_rows):
        items = loaded.item_row[(loaded.user_row == user) & (loaded.split == 0)].tolist()
        while items:
            sets.append((user, items[-length:]))
            items = items[:-length]
    return sets


@pytest.mark.parametrize("length", [1, 7, 500])
def test_each_item_of_a_set_is_shown_or_hidden(tiny_dataset: Dataset, length: int) -> None:
    """Every train item of every user once, and what is shown in its order."""
    assert max(len(items) for _, items in expected(tiny_dataset, 500)) <= MAX_TARGETS
    left = Counter((user, tuple(sorted(items))) for user, items in expected(tiny_dataset, length))
    in_order = dict(expected(tiny_dataset, 500))
    for user, shown, hidden in read(tiny_dataset, length):
        left[user, tuple(sorted(shown + hidden))] -= 1
        assert shown == [item for item in in_order[user] if item in set(shown)]
    assert set(left.values()) == {0}


@pytest.mark.parametrize("hidden", [0.2, 0.7])
def test_as_many_are_hidden_as_asked_and_others_in_each_epoch(tiny_dataset: Dataset, hidden: float) -> None:
    batches = training_sets(tiny_dataset, BATCH, 500, hidden, seed=1)
    first, second = (
        {
            user: frozenset(items)
            for user, shown, items in contents(tiny_dataset, batches.as_numpy_iterator())
            if shown or items
        }
        for _ in range(2)
    )
    number = sum(len(items) for _, items in expected(tiny_dataset, 500))
    share = sum(map(len, first.values())) / number
    assert abs(share - hidden) < 4 * (hidden * (1 - hidden) / number) ** 0.5
    # Coins of the second epoch know nothing of the first's.
    both = sum(len(first[user] & second[user]) for user in first) / number
    assert abs(both - hidden**2) < 4 * (hidden**2 / number) ** 0.5


def test_seeds_repeat_them(tiny_dataset: Dataset) -> None:
    one, again, other = (read(tiny_dataset, 7, seed=seed) for seed in (1, 1, 2))
    assert one == again != other


def test_of_too_many_hidden_items_any_are_targets_and_weigh_as_much_as_all(tmp_path: Path) -> None:
    items = 400
    (tmp_path / "rows.csv").write_text(
        "user_id,item_id,timestamp\n" + "".join(f"u{u},i{i},{i}\n" for u in range(2) for i in range(items))
    )
    rule = {"split": {"validation_start": items - 2, "test_start": items - 1}, "history_length": items}
    prepare(str(tmp_path / "rows.csv"), DataConfig.model_validate(rule), tmp_path / "dataset")
    dataset = open_dataset(tmp_path / "dataset")
    times_target: Counter[int] = Counter()
    batches = training_sets(dataset, 2, items, 0.5, seed=0)
    for _ in range(8):
        (batch,) = batches.as_numpy_iterator()
        for history, targets, weight in zip(batch["history"], batch["item_row"], batch["weight"], strict=True):
            assert len(set(targets.tolist())) == MAX_TARGETS
            shown = (history > 0).sum()
            np.testing.assert_allclose(weight, (items - 2 - shown) / MAX_TARGETS)
            assert not set(dataset.item_features["item_id"][targets]) & set(history[history > 0])
            times_target.update(targets.tolist())
    # Each of 398 is a target with probability 64 / 398 in each of 16 sets: 24 of them never, with a deviation of 5.
    assert len(times_target) >= 350
    assert max(times_target.values()) <= 12


def test_weights_are_those_of_the_hidden_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(
        "user_id,item_id,timestamp,w\n" + "".join(f"u,i{i},{i},{2**i}\n" for i in range(9))
    )
    config = {
        "history_length": 8,
        "interactions": {"weight": "w"},
        "split": {"validation_start": 7, "test_start": 8},
    }
    prepare(str(tmp_path / "rows.csv"), DataConfig.model_validate(config), tmp_path / "dataset")
    dataset = open_dataset(tmp_path / "dataset")
    (batch,) = training_sets(dataset, 1, 8, 0.6, 0).as_numpy_iterator()
    hidden = batch["weight"] > 0
    item = dataset.items["item"].to_numpy()[batch["item_row"][hidden]]
    assert 1 <= hidden.sum() <= 6
    assert batch["weight"][hidden].tolist() == [2.0 ** int(name[1:]) for name in item]


def test_an_iterator_resumes_at_the_next_batch(tiny_dataset: Dataset, tmp_path: Path) -> None:
    def batches() -> Any:
        return iter(training_sets(tiny_dataset, BATCH, 20, 0.5, seed=0).repeat(2))

    def rest(iterator: Any) -> list[tuple[Any, Any]]:
        return [(batch["history"].numpy().tolist(), batch["item_row"].numpy().tolist()) for batch in iterator]

    iterator, again = batches(), batches()
    next(iterator)
    saved = tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "state"))
    tf.train.Checkpoint(iterator=again).restore(saved).assert_consumed()
    assert rest(again) == rest(iterator)


def test_features_are_those_of_the_users_and_the_hidden_items(tiny_dataset: Dataset) -> None:
    (batch, *_) = training_sets(tiny_dataset, BATCH, 5, 0.5, seed=0).as_numpy_iterator()
    for name, table in tiny_dataset.user_features.items():
        np.testing.assert_array_equal(batch[name], table[batch["user_row"]])
    for name, table in tiny_dataset.item_features.items():
        np.testing.assert_array_equal(batch[name], table[batch["item_row"]])
    chosen = training_sets(tiny_dataset, BATCH, 5, 0.5, seed=0, features=["user_id"]).element_spec
    assert sorted(chosen) == ["history", "item_row", "user_id", "user_row", "weight"]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_share_the_sets_and_take_equally_many_steps(tiny_dataset: Dataset, workers: int) -> None:
    """Each worker has two replicas."""
    found, lengths = [], set()
    for worker in range(workers):
        context = tf.distribute.InputContext(workers, worker, 2 * workers)
        batches = training_sets(tiny_dataset, 12 * workers, 5, 0.5, 0, context)
        yielded = list(batches.as_numpy_iterator())
        assert {batch["history"].shape for batch in yielded} == {(6, 5)}
        lengths.add((len(batches), len(yielded)))
        found += [(user, sorted(one + two)) for user, one, two in contents(tiny_dataset, yielded) if one or two]
    assert len(lengths) == 1
    assert sorted(found) == sorted((user, sorted(items)) for user, items in expected(tiny_dataset, 5))


def test_a_feed_s_epoch_is_all_sets_hidden_anew(tiny_dataset: Dataset) -> None:
    def epochs(number: int, first_epoch: int = 0) -> list[list[Set]]:
        feed = set_feed(tf.distribute.get_strategy(), tiny_dataset, BATCH, 5, 0.5, seed=0, first_epoch=first_epoch)
        iterator = iter(feed.batches)
        batches = [
            [{n: t.numpy() for n, t in next(iterator).items()} for _ in range(feed.steps_per_epoch)]
            for _ in range(number)
        ]
        return [[found for found in contents(tiny_dataset, epoch) if found[1] or found[2]] for epoch in batches]

    first, second = epochs(2)
    for epoch in (first, second):
        found = [(user, sorted(shown + hidden)) for user, shown, hidden in epoch]
        assert sorted(found) == sorted((user, sorted(items)) for user, items in expected(tiny_dataset, 5))
    assert sorted(first) != sorted(second)
    assert epochs(1, first_epoch=1) == [second]
