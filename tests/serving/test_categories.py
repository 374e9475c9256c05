"""Choosing within categories and with another effort: sets in Python and a NumPy matrix product say what is right."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from oracle import Oracle

from data_prep.sources import open_source, read_source
from recsys.dataset import Dataset
from recsys.run import Run
from serving.bundle import open_bundle
from serving.categories import Categories

UNKNOWN = "a user nobody knows"


@pytest.fixture(scope="module")
def members(tiny_dataset: Dataset) -> dict[str, set[str]]:
    """The items of each genre and category, read from the source itself."""
    columns = ["item_id", "genres", "category"]
    spec = tiny_dataset.manifest.sources["interactions"].spec
    batches = read_source(open_source(spec), columns)
    rows = pa.concat_tables([batch.table.select(columns) for batch in batches]).to_pylist()
    found: dict[str, set[str]] = {}
    for row in rows:
        names = [f"genres={genre}" for genre in row["genres"].split("|")] + [f"category={row['category']}"]
        for name in names:
            found.setdefault(name, set()).add(row["item_id"])
    return found


@pytest.fixture(scope="module")
def model(tiny_models: Path) -> Any:
    return open_bundle(tiny_models / "tiny").model


@pytest.fixture(scope="module")
def oracle(tiny_run: Run) -> Oracle:
    return Oracle(tiny_run)


def ask(model: Any, users: list[str], categories: list[list[str]], k: int, leaves: int = 0, factor: float = 0) -> Any:
    nothing = tf.fill([len(users), 0], "")
    answer = model.signatures["recommend_with_options"](
        user_id=tf.constant(users),
        history=nothing,
        exclude=nothing,
        categories=tf.ragged.constant(categories, dtype=tf.string, ragged_rank=1).to_tensor(""),
        k=tf.constant(k),
        leaves=tf.constant(leaves),
        reorder_factor=tf.constant(factor, tf.float32),
    )
    return {name: value.numpy() for name, value in answer.items()}


def test_every_value_of_every_categorical_feature_can_be_asked_for(
    tiny_dataset: Dataset, members: dict[str, set[str]]
) -> None:
    categories, items = Categories(tiny_dataset), tiny_dataset.items["item"].to_pylist()
    names = sorted(members)
    marked = categories.items(tf.constant(names)[:, tf.newaxis]).numpy()
    assert marked.shape == (len(names), 293)
    for name, row in zip(names, marked, strict=True):
        assert {item for item, is_of in zip(items, row, strict=True) if is_of} == members[name] & set(items)


def test_several_names_are_any_of_them_and_none_is_everything(
    tiny_dataset: Dataset, members: dict[str, set[str]]
) -> None:
    items = tiny_dataset.items["item"].to_pylist()
    first, second = sorted(members)[:2]
    asked = [["", ""], [first, second], ["", "genres=nothing known"], ["genres", second]]
    marked = Categories(tiny_dataset).items(tf.constant(asked)).numpy()
    expected = [set(items), members[first] | members[second], set(), members[second]]
    for row, of_row in zip(marked, expected, strict=True):
        assert {item for item, is_of in zip(items, row, strict=True) if is_of} == of_row & set(items)
    assert Categories(tiny_dataset).items(tf.fill([3, 0], "")).numpy().all()


@pytest.mark.parametrize("k", [1, 10, 293])
def test_the_best_untaken_items_of_a_category_are_recommended(
    model: Any, oracle: Oracle, members: dict[str, set[str]], k: int
) -> None:
    names = sorted(members)
    users = oracle.users[: len(names)]
    answer = ask(model, users, [[name] for name in names], k)
    for i, (user, name) in enumerate(zip(users, names, strict=True)):
        barred = {*oracle.taken[user], *(set(oracle.items) - members[name])}
        oracle.assert_best(answer["item_ids"][i], answer["scores"][i], oracle.embed(user, []), barred)
        assert answer["num_items"][i] == min(k, len(set(oracle.items) - barred))


def test_popular_items_of_a_category_are_recommended_to_somebody_unknown(
    model: Any, oracle: Oracle, members: dict[str, set[str]]
) -> None:
    name = min(members, key=lambda name: len(members[name]))
    everything = [item.decode() for item in ask(model, [UNKNOWN], [[]], 293)["item_ids"][0]]
    answer = ask(model, [UNKNOWN, UNKNOWN], [[name], ["genres=nothing known"]], 293)
    in_category = [item for item in everything if item in members[name]]
    assert [item.decode() for item in answer["item_ids"][0] if item] == in_category
    assert answer["num_items"].tolist() == [len(in_category), 0]
    assert not any(answer["item_ids"][1])


def test_without_options_it_is_recommend(model: Any, oracle: Oracle) -> None:
    users = [UNKNOWN, *oracle.users[:5]]
    nothing = tf.fill([len(users), 0], "")
    plain = model.signatures["recommend"](
        user_id=tf.constant(users), history=nothing, exclude=nothing, k=tf.constant(20)
    )
    for leaves, factor in [(0, 0), (1, 1), (2**31 - 1, 1e30)]:  # a catalogue this small is searched as a whole
        answer = ask(model, users, [[] for _ in users], 20, leaves, factor)
        assert answer.keys() == plain.keys()
        for name in answer:
            np.testing.assert_array_equal(answer[name], plain[name])
