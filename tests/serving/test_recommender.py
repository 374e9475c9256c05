"""The exported graph, against towers called by hand and a NumPy matrix product."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import tensorflow as tf
from oracle import FLOAT32_MIN, Oracle

from recsys.run import Run
from serving.bundle import open_bundle

CLOSE = 1e-5
UNKNOWN = "a user nobody knows"

Answer = dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def model(tiny_models: Path) -> Any:
    return open_bundle(tiny_models / "tiny").model


@pytest.fixture(scope="module")
def oracle(tiny_run: Run) -> Oracle:
    return Oracle(tiny_run)


def strings(rows: list[list[str]]) -> tf.Tensor:
    return tf.ragged.constant(rows, dtype=tf.string, ragged_rank=1).to_tensor("")


def recommend(model: Any, users: list[str], k: int, history: Any = None, exclude: Any = None) -> Answer:
    nothing: list[list[str]] = [[] for _ in users]
    answer = model.signatures["recommend"](
        user_id=tf.constant(users),
        history=strings(nothing if history is None else history),
        exclude=strings(nothing if exclude is None else exclude),
        k=tf.constant(k),
    )
    return {name: value.numpy() for name, value in answer.items()}


def test_signatures_have_the_documented_inputs_and_outputs(model: Any) -> None:
    users = {"user_id": ([None], tf.string)}
    lists = {name: ([None, None], tf.string) for name in ("history", "exclude")}
    k = {"k": ([], tf.int32)}
    found = {"item_ids": tf.string, "scores": tf.float32}
    recommended = found | {"known": tf.bool, "source": tf.string, "num_items": tf.int32}
    options = {"categories": lists["history"], "leaves": k["k"], "reorder_factor": ([], tf.float32)}
    expected = {
        "serving_default": (users, found),
        "recommend": (users | lists | k, recommended),
        "recommend_exactly": (users | lists | k, recommended),
        "recommend_with_options": (users | lists | k | options, recommended),
        "embed_query": (users | {"history": lists["history"]}, {"embeddings": tf.float32}),
        "similar_items": ({"item_id": ([None], tf.string)} | k, found | {"num_items": tf.int32}),
        "explain": (users | {"history": lists["history"], "item_id": ([None], tf.string)} | k, found),
    }
    signatures = {
        name: (
            {key: (spec.shape.as_list(), spec.dtype) for key, spec in signature.structured_input_signature[1].items()},
            {key: spec.dtype for key, spec in signature.structured_outputs.items()},
        )
        for name, signature in model.signatures.items()
    }
    assert signatures == expected


@pytest.mark.parametrize("k", [1, 20, 293])
def test_known_users_get_their_best_untaken_items(model: Any, oracle: Oracle, k: int) -> None:
    users = [*oracle.users[:12], max(oracle.users, key=lambda user: len(oracle.taken[user]))]
    answer = recommend(model, users, k)
    assert answer["known"].all()
    assert set(answer["source"]) == {b"user"}
    assert answer["item_ids"].shape == answer["scores"].shape == (len(users), k)
    for i, user in enumerate(users):
        oracle.assert_best(answer["item_ids"][i], answer["scores"][i], oracle.embed(user, []), set(oracle.taken[user]))


def test_who_is_unknown_and_gives_no_history_gets_what_is_popular_of_late(
    model: Any, oracle: Oracle, tiny_rows: pd.DataFrame
) -> None:
    """Counted by pandas from the source: items by their number of interactions from the 80 % quantile of time on."""
    late = tiny_rows[tiny_rows.timestamp >= tiny_rows.timestamp.quantile(0.8, interpolation="lower")]
    counts, totals = late.item_id.value_counts(), tiny_rows.item_id.value_counts()
    in_order = sorted(oracle.items, key=lambda item: (-counts.get(item, 0), -totals[item], oracle.items.index(item)))
    exclude = [in_order[0], in_order[5]]
    users, k = [UNKNOWN, oracle.users[0], "", UNKNOWN], 40
    history = [[], [], [], oracle.items[5:8]]
    answer = recommend(model, users, k, history, [[], [], exclude, []])
    assert answer["known"].tolist() == [False, True, False, False]
    assert answer["source"].tolist() == [b"popularity", b"user", b"popularity", b"history"]
    for row, barred in [(0, []), (2, exclude)]:
        expected = [item for item in in_order if item not in barred][:k]
        assert [item.decode() for item in answer["item_ids"][row]] == expected
        np.testing.assert_allclose(answer["scores"][row], [counts.get(i, 0) / len(late) for i in expected], rtol=1e-6)


def test_a_given_history_replaces_the_stored_one_but_what_was_taken_stays_excluded(model: Any, oracle: Oracle) -> None:
    known, other = oracle.users[0], oracle.users[1]
    short, longer_than_remembered = oracle.items[5:8], oracle.items[100:140]
    users = [known, known, UNKNOWN, "", other]
    history = [short, longer_than_remembered, short, [*short, "an item nobody knows"], []]
    answer = recommend(model, users, 30, history)
    for i, (user, given) in enumerate(zip(users, history, strict=True)):
        barred = {*oracle.taken.get(user, []), *given}
        oracle.assert_best(answer["item_ids"][i], answer["scores"][i], oracle.embed(user, given), barred)
    stored = recommend(model, [known], 30)
    assert np.abs(stored["scores"][0] - answer["scores"][0]).max() > 0.01


def test_padding_within_a_history_is_skipped(model: Any, oracle: Oracle) -> None:
    items = oracle.items[5:8]
    padded = recommend(model, [UNKNOWN], 20, [["", items[0], "", items[1], items[2], ""]])
    plain = recommend(model, [UNKNOWN], 20, [items])
    assert padded["item_ids"].tolist() == plain["item_ids"].tolist()
    np.testing.assert_allclose(padded["scores"], plain["scores"], atol=CLOSE)


def test_excluded_items_are_never_recommended(model: Any, oracle: Oracle) -> None:
    users = [oracle.users[0], oracle.users[1], oracle.users[2], oracle.users[3]]
    first = recommend(model, users, 15)["item_ids"]
    exclude = [[item.decode("utf-8") for item in row] for row in first[:2]]
    exclude += [["an item nobody knows", ""], oracle.items]
    answer = recommend(model, users, 15, exclude=exclude)
    for i, user in enumerate(users):
        barred = {*oracle.taken.get(user, []), *exclude[i]}
        oracle.assert_best(answer["item_ids"][i], answer["scores"][i], oracle.embed(user, []), barred)
    assert not any(answer["item_ids"][3])


def test_a_batch_answers_like_its_users_one_by_one(model: Any, oracle: Oracle) -> None:
    users = [*oracle.users[:62], UNKNOWN, ""]
    together = recommend(model, users, 20)
    for i, user in enumerate(users):
        alone = recommend(model, [user], 20)
        np.testing.assert_allclose(together["scores"][i], alone["scores"][0], atol=CLOSE)
        assert together["known"][i] == alone["known"][0]
        assert together["item_ids"][i].tolist() == alone["item_ids"][0].tolist()


def test_serving_default_recommends_a_hundred(model: Any, oracle: Oracle) -> None:
    users = [oracle.users[4], UNKNOWN]
    answer = model.signatures["serving_default"](user_id=tf.constant(users))
    expected = recommend(model, users, 100)
    assert answer["item_ids"].numpy().tolist() == expected["item_ids"].tolist()
    np.testing.assert_array_equal(answer["scores"], expected["scores"])


@pytest.mark.parametrize("k", [-1, 0, 294])
@pytest.mark.parametrize("signature", ["recommend", "similar_items", "explain"])
def test_k_out_of_range_is_refused(model: Any, signature: str, k: int) -> None:
    strings_given = {"item_id": tf.constant(["i1"])}
    if signature == "recommend":
        strings_given = {"user_id": tf.constant(["u1"]), "history": strings([[]]), "exclude": strings([[]])}
    if signature == "explain":
        strings_given |= {"user_id": tf.constant(["u1"]), "history": strings([[]])}
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        model.signatures[signature](**strings_given, k=tf.constant(k))
    assert "k must be between 1 and 293" in str(error.value)


@pytest.mark.parametrize("k", [1, 10, 293])
def test_similar_items_are_the_nearest_others_and_none_for_an_unknown_item(model: Any, oracle: Oracle, k: int) -> None:
    asked = [oracle.items[0], "an item nobody knows", oracle.items[290], "", oracle.items[17]]
    answer = model.signatures["similar_items"](item_id=tf.constant(asked), k=tf.constant(k))
    assert answer["num_items"].numpy().tolist() == [min(k, 292) if item in oracle.items else 0 for item in asked]
    for item, ids, scores in zip(asked, answer["item_ids"].numpy(), answer["scores"].numpy(), strict=True):
        if item in oracle.items:
            oracle.assert_best(ids, scores, oracle.candidates[oracle.items.index(item)], {item})
        else:
            assert not any(ids)
            assert (scores == FLOAT32_MIN).all()


@pytest.mark.parametrize("k", [1, 2, 293])
def test_an_item_is_explained_by_the_nearest_that_the_user_took(model: Any, oracle: Oracle, k: int) -> None:
    given = [oracle.items[40], oracle.items[3], oracle.items[40], "an item nobody knows", oracle.items[8]]
    asked: list[tuple[str, list[str], str]] = [
        (oracle.users[0], [], oracle.items[5]),
        (oracle.users[0], given, oracle.items[5]),
        (UNKNOWN, given, oracle.items[290]),
        (UNKNOWN, given, oracle.items[8]),
        (UNKNOWN, [], oracle.items[5]),
        (oracle.users[1], given, "an item nobody knows"),
        (oracle.users[1], ["an item nobody knows"], oracle.items[5]),
        (UNKNOWN, oracle.items[:150], oracle.items[200]),
    ]
    users, histories, items = (list(column) for column in zip(*asked, strict=True))
    answer = model.signatures["explain"](
        user_id=tf.constant(users), history=strings(histories), item_id=tf.constant(items), k=tf.constant(k)
    )
    for (user, history, item), ids, scores in zip(
        asked, answer["item_ids"].numpy(), answer["scores"].numpy(), strict=True
    ):
        basis = set((history or oracle.taken.get(user, []))[-100:]) & set(oracle.items) - {item}
        if item not in oracle.items:
            basis = set()
        embedding = oracle.candidates[oracle.items.index(item) if item in oracle.items else 0]
        oracle.assert_best(ids, scores, embedding, set(oracle.items) - basis)


def test_embed_query_is_the_query_tower(model: Any, oracle: Oracle) -> None:
    given = oracle.items[3:6]
    users, history = [oracle.users[0], oracle.users[0], UNKNOWN, "", ""], [[], given, given, [], given]
    answer = model.signatures["embed_query"](user_id=tf.constant(users), history=strings(history))
    expected = [oracle.embed(user, items) for user, items in zip(users, history, strict=True)]
    np.testing.assert_allclose(answer["embeddings"], expected, atol=CLOSE)
    assert np.any(answer["embeddings"][3])
