"""The check that runs in a process of its own, called here in this one, and what it is asked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scann  # noqa: F401  registers the ops
import tensorflow as tf

from recsys.errors import BundleError
from serving import answer_check, fresh_process
from serving.every_signature import Inputs, ask_every_signature
from serving.recommender import SIGNATURES

USERS, K = ["u1", "nobody", "", "u2"], 5
HISTORY, EXCLUDE = [["", ""], ["i3", "i4"], ["", "i9"], ["", ""]], [["i1"], ["i2"], ["i5"], ["i8"]]


@pytest.fixture(scope="module")
def requests() -> dict[str, Inputs]:
    texts = USERS, HISTORY, EXCLUDE, [[""], [""], [""], ["genres=nothing known"]], ["i3", "i4", "i5", "nothing"]
    return ask_every_signature(*map(np.asarray, texts), K)


def flat(requests: dict[str, Inputs]) -> Inputs:
    return {f"{name}/{key}": value for name, inputs in requests.items() for key, value in inputs.items()}


def test_every_signature_is_asked_for_what_it_takes(tiny_models: Path, requests: dict[str, Inputs]) -> None:
    signatures = tf.saved_model.load(str(tiny_models / "tiny" / "1")).signatures
    taken = {name: set(signature.structured_input_signature[1]) for name, signature in signatures.items()}
    assert {name: set(inputs) for name, inputs in requests.items()} == taken
    assert set(taken) == set(SIGNATURES)


def test_answers_are_those_of_all_rows_at_once_and_then_of_the_first_alone(
    monkeypatch: pytest.MonkeyPatch, tiny_models: Path, tmp_path: Path, requests: dict[str, Inputs]
) -> None:
    path = tiny_models / "tiny" / "1"
    monkeypatch.setattr(answer_check, "_ALONE", 2)
    np.savez(tmp_path / "requests.npz", **flat(requests))
    answer_check.main(str(tmp_path / "requests.npz"), str(tmp_path), str(path))
    received = dict(np.load(tmp_path / "answers-0.npz"))
    signatures = tf.saved_model.load(str(path)).signatures
    for start, stop in [(0, 4), (0, 1), (1, 2)]:
        place = slice(start, stop) if stop - start == 4 else slice(4 + start, 4 + stop)
        users, number = tf.constant(USERS[start:stop]), tf.constant(K)
        history, exclude = tf.constant(HISTORY[start:stop]), tf.constant(EXCLUDE[start:stop])
        recommended = signatures["recommend"](user_id=users, history=history, exclude=exclude, k=number)
        similar = signatures["similar_items"](item_id=tf.constant(["i3", "i4", "i5", "nothing"][start:stop]), k=number)
        embedded = signatures["embed_query"](user_id=users, history=history)
        for signature, expected in [("recommend", recommended), ("similar_items", similar), ("embed_query", embedded)]:
            for name, value in expected.items():
                found = received[f"{signature}/{name}"][place]
                np.testing.assert_array_equal(np.char.encode(found) if found.dtype.kind == "U" else found, value)
    assert {name.partition("/")[0] for name in received} == set(SIGNATURES)
    assert {len(values) for values in received.values()} == {6}


ANOTHER: dict[str, Callable[[Any], Any]] = {
    "O": lambda value: b"another",
    "b": lambda value: not value,
    "f": lambda value: value + 0.01,
    "i": lambda value: value + 1,
}


def test_every_signature_is_compared(tiny_models: Path, requests: dict[str, Inputs]) -> None:
    """Of each a single output is another in one of the rows, once for each kind of output."""
    twin = tiny_models / "tiny" / "exact" / "1"
    signatures = tf.saved_model.load(str(twin)).signatures
    fresh_process.check([(signatures, twin)], requests)
    changed = {
        "serving_default": "scores",
        "recommend": "item_ids",
        "recommend_with_options": "num_items",
        "recommend_exactly": "known",
        "embed_query": "embeddings",
        "similar_items": "item_ids",
        "explain": "scores",
    }

    def altered(signature: str) -> Any:
        def answer(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            outputs = dict(signatures[signature](**inputs))
            values = np.array(outputs[changed[signature]])
            first = (0,) * values.ndim
            values[first] = ANOTHER[values.dtype.kind](values[first])
            return outputs | {changed[signature]: tf.constant(values)}

        return answer

    other = {signature: altered(signature) for signature in changed}
    with pytest.raises(BundleError) as error:
        fresh_process.check([(other, twin)], requests)
    assert str(error.value) == (
        "the exported model answers serving_default, recommend, recommend_with_options, recommend_exactly, "
        "embed_query, similar_items, explain otherwise than the model in memory; it is not published"
    )
