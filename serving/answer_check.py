"""Asks SavedModels in a process of its own: `python answer_check.py REQUESTS.npz FOLDER MODEL…`.

Imports what a client has and nothing of this project: TensorFlow, and for all but the first model ScaNN.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from sys import argv

import numpy as np
import tensorflow as tf


def main(requests_path: str, folder: str, *models: str) -> None:
    """Loads the models, asks their `recommend` signatures, and saves the answers as FOLDER/answers-NUMBER.npz."""
    requests = np.load(requests_path)
    for number, model in enumerate(models):
        if number:
            import_module("scann")  # registers its ops; the first model has to do without
        recommend = tf.saved_model.load(model).signatures["recommend"]
        answers = answer(recommend, requests["user_id"].tolist(), int(requests["k"]))
        np.savez(Path(folder) / f"answers-{number}.npz", item_ids=answers["item_ids"], scores=answers["scores"])


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
    main(*argv[1:])
