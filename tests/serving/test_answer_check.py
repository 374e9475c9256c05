"""The check that runs in a process of its own, called here in this one."""

from pathlib import Path

import numpy as np
import scann  # noqa: F401  registers the ops
import tensorflow as tf

from serving import answer_check


def test_answers_are_those_of_all_users_at_once_and_then_of_each(tiny_models: Path, tmp_path: Path) -> None:
    path = tiny_models / "tiny" / "1"
    users = ["u1", "nobody", "", "u2"]
    np.savez(tmp_path / "requests.npz", user_id=np.asarray(users), k=np.int32(5))
    answer_check.main(str(tmp_path / "requests.npz"), str(tmp_path), str(path))
    received = np.load(tmp_path / "answers-0.npz")

    recommend = tf.saved_model.load(str(path)).signatures["recommend"]
    for start, batch in [(0, users), *((4 + row, [user]) for row, user in enumerate(users))]:
        nothing = tf.fill([len(batch), 0], "")
        expected = recommend(user_id=tf.constant(batch), history=nothing, exclude=nothing, k=tf.constant(5))
        rows = slice(start, start + len(batch))
        ids = [[item.decode("utf-8") for item in row] for row in expected["item_ids"].numpy()]
        assert received["item_ids"][rows].tolist() == ids
        np.testing.assert_array_equal(received["scores"][rows], expected["scores"])
    assert received["item_ids"].shape == received["scores"].shape == (8, 5)
