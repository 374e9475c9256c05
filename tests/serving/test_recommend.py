"""Answers for a person to read."""

from pathlib import Path

import pytest
import tensorflow as tf

from recsys.dataset import Dataset
from recsys.errors import RequestError
from serving.bundle import Bundle, open_bundle
from serving.recommend import recommend


@pytest.fixture(scope="module")
def bundle(tiny_models: Path) -> Bundle:
    return open_bundle(tiny_models / "tiny")


def test_an_answer_holds_the_signature_s_items_with_what_is_shown_of_them(
    bundle: Bundle, tiny_dataset: Dataset
) -> None:
    user = tiny_dataset.users["user"][3].as_py()
    nothing = tf.fill([1, 0], "")
    raw = bundle.model.signatures["recommend"](
        user_id=tf.constant([user]), history=nothing, exclude=nothing, k=tf.constant(4)
    )
    titles = dict(
        zip(tiny_dataset.items["item"].to_pylist(), tiny_dataset.items["show_title"].to_pylist(), strict=True)
    )
    answer = recommend(bundle, user, 4)
    assert (answer["user_id"], answer["known"], set(answer)) == (user, True, {"user_id", "known", "source", "items"})
    assert [row["rank"] for row in answer["items"]] == [1, 2, 3, 4]
    assert [row["item_id"].encode() for row in answer["items"]] == raw["item_ids"].numpy()[0].tolist()
    assert [row["score"] for row in answer["items"]] == raw["scores"].numpy()[0].tolist()
    assert [row["shown"]["title"] for row in answer["items"]] == [titles[row["item_id"]] for row in answer["items"]]


def test_history_and_exclusions_reach_the_model(bundle: Bundle) -> None:
    before = recommend(bundle, "nobody", 3, history=("i3", "i14"))
    best = before["items"][0]["item_id"]
    after = recommend(bundle, "nobody", 3, history=("i3", "i14"), exclude=(best,))
    assert before["known"] is False
    assert [row["item_id"] for row in after["items"]][:2] == [row["item_id"] for row in before["items"]][1:]
    assert recommend(bundle, "nobody", 3)["items"] != before["items"]


def test_where_nothing_is_left_there_are_no_items(bundle: Bundle, tiny_dataset: Dataset) -> None:
    everything = tiny_dataset.items["item"].to_pylist()
    answer = recommend(bundle, "nobody", 3, exclude=everything)
    assert answer == {"user_id": "nobody", "known": False, "source": "popularity", "items": []}
    left = recommend(bundle, "nobody", 3, exclude=everything[1:])["items"]
    assert [row["item_id"] for row in left] == everything[:1]


@pytest.mark.parametrize("k", [-3, 0, 294])
def test_k_out_of_range_is_refused(bundle: Bundle, k: int) -> None:
    with pytest.raises(RequestError) as error:
        recommend(bundle, "u1", k)
    assert str(error.value) == f"k = {k}: expected 1 … 293 (the catalogue has 293 items)"
