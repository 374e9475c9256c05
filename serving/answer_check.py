"""Answers queries from a SavedModel in a process of its own: `python answer_check.py MODEL REQUESTS.npz ANSWERS.npz`.

Imports what a client has, TensorFlow and ScaNN, and nothing of this project.
"""

import sys

import numpy as np
import scann  # noqa: F401  registers the ops
import tensorflow as tf


def main(model_path: str, requests_path: str, answers_path: str) -> None:
    """Loads the model, calls its `recommend` signature on the requests in batches of 64 and of 1, saves the answers."""
    recommend = tf.saved_model.load(model_path).signatures["recommend"]
    requests = np.load(requests_path)
    users, k = requests["user_id"], tf.constant(requests["k"])
    answers: dict[str, list[np.ndarray]] = {"item_ids": [], "scores": []}
    for start, stop in [(0, len(users)), *((row, row + 1) for row in range(len(users)))]:
        batch = tf.constant(users[start:stop].tolist())
        nothing = tf.fill([stop - start, 0], "")
        answer = recommend(user_id=batch, history=nothing, exclude=nothing, k=k)
        for name, collected in answers.items():
            collected.append(answer[name].numpy())
    np.savez(
        answers_path,
        item_ids=np.concatenate(answers["item_ids"]).astype(str),
        scores=np.concatenate(answers["scores"]),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
