"""Answers queries from a SavedModel in a process of its own: `python answer_check.py MODEL REQUESTS.npz ANSWERS.npz`.

Imports what a client has, TensorFlow and ScaNN, and nothing of this project.
"""

import sys
from collections.abc import Callable

import numpy as np
import scann  # noqa: F401  registers the ops
import tensorflow as tf


def main(model_path: str, requests_path: str, answers_path: str) -> None:
    """Loads the model, asks its `recommend` signature, saves the answers."""
    requests = np.load(requests_path)
    recommend = tf.saved_model.load(model_path).signatures["recommend"]
    answers = answer(recommend, requests["user_id"].tolist(), int(requests["k"]))
    np.savez(answers_path, item_ids=answers["item_ids"], scores=answers["scores"])


def answer(recommend: Callable[..., dict[str, tf.Tensor]], users: list[str], k: int) -> dict[str, np.ndarray]:
    """Asks for all users at once, then one by one: an approximate index may answer these two differently.

    Returns:
      `item_ids` [2 · len(users), k] str and `scores` [2 · len(users), k] float32.
    """
    answers: dict[str, list[np.ndarray]] = {"item_ids": [], "scores": []}
    for start, stop in [(0, len(users)), *((row, row + 1) for row in range(len(users)))]:
        nothing = tf.fill([stop - start, 0], "")
        batch = recommend(user_id=tf.constant(users[start:stop]), history=nothing, exclude=nothing, k=tf.constant(k))
        for name, collected in answers.items():
            collected.append(batch[name].numpy())
    return {
        "item_ids": np.char.decode(np.concatenate(answers["item_ids"]).astype(bytes), "utf-8"),
        "scores": np.concatenate(answers["scores"]),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
