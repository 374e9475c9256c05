"""Publishing: what appears, what a stock client reads from it, and what is not published."""

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from recsys.dataset import Dataset
from recsys.errors import IndexQualityError
from recsys.run import Run
from serving.bundle import open_bundle, versions
from serving.export import export
from serving.fresh_process import same_answers

# What a service does that has nothing of this project: argv is the SavedModel and a file of users.
CLIENT = """
import json, sys
import scann
import tensorflow as tf

signatures = tf.saved_model.load(sys.argv[1]).signatures
users = json.load(open(sys.argv[2]))

def ask(batch):
    nothing = tf.fill([len(batch), 0], "")
    answer = signatures["recommend"](user_id=tf.constant(batch), history=nothing, exclude=nothing, k=tf.constant(10))
    ids = [[item.decode() for item in row] for row in answer["item_ids"].numpy()]
    return [list(row) for row in zip(ids, answer["scores"].numpy().tolist(), answer["known"].numpy().tolist())]

similar = signatures["similar_items"](item_id=tf.constant(["i1"]), k=tf.constant(3))["item_ids"].numpy()[0]
print(json.dumps({
    "together": ask(users),
    "alone": [ask([user])[0] for user in users],
    "similar": [item.decode() for item in similar],
    "ours": sorted({m.split(".")[0] for m in sys.modules} & {
        "recsys", "serving", "data_prep", "experiments", "tf_keras", "tensorflow_recommenders"}),
}))
"""


def test_a_client_with_only_tensorflow_and_scann_gets_the_same_answers(
    tiny_models: Path, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    path = tiny_models / "tiny" / "1"
    users = ["somebody new", "", *tiny_dataset.users["user"].to_pylist()[:62]]
    (tmp_path / "users.json").write_text(json.dumps(users), encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    command = [sys.executable, "-I", "-c", CLIENT, str(path), str(tmp_path / "users.json")]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    answer: dict[str, Any] = json.loads(outcome.stdout.splitlines()[-1])

    assert answer["ours"] == []
    assert len(answer["together"]) == len(answer["alone"]) == 64
    model = open_bundle(tiny_models / "tiny").model
    nothing = tf.fill([64, 0], "")
    here = model.signatures["recommend"](
        user_id=tf.constant(users), history=nothing, exclude=nothing, k=tf.constant(10)
    )
    for i, user in enumerate(users):
        ids = [item.decode("utf-8") for item in here["item_ids"].numpy()[i]]
        for received_ids, received_scores, known in (answer["together"][i], answer["alone"][i]):
            np.testing.assert_allclose(received_scores, here["scores"][i], atol=1e-5)
            assert known is (i >= 2)
            assert len(set(received_ids)) == 10
            if user:  # the empty user scores all items alike
                assert received_ids == ids
    similar = model.signatures["similar_items"](item_id=tf.constant(["i1"]), k=tf.constant(3))["item_ids"]
    assert answer["similar"] == [item.decode("utf-8") for item in similar.numpy()[0]]


def contents(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        file.relative_to(folder).as_posix(): (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns)
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_publishing_again_adds_a_version_and_does_not_touch_the_one_before(
    tiny_run: Run, tiny_models: Path, twice_published: Path
) -> None:
    name = twice_published / "tiny"
    assert sorted(path.name for path in name.iterdir()) == ["1", "2", "exact"]
    assert versions(name / "exact") == [1, 2]
    assert contents(name / "1") == contents(tiny_models / "tiny" / "1")

    latest = open_bundle(name)
    assert (latest.version, latest.path) == (2, name / "2")
    manifest = (tiny_run.dataset.path / "manifest.json").read_bytes()
    assert latest.record.dataset_sha256 == hashlib.sha256(manifest).hexdigest()
    digests = {file: digest for file, (digest, _) in contents(latest.path).items()}
    assert latest.record.files == {file: d for file, d in digests.items() if file != "assets.extra/bundle.json"}
    assert latest.record.index_recall == pytest.approx(1, abs=1e-6)


def test_an_index_that_misses_its_recall_is_not_published_and_leaves_nothing(tiny_run: Run, tmp_path: Path) -> None:
    index = tiny_run.config.index.model_copy(update={"max_query_ms": 1e-6})
    run = dataclasses.replace(tiny_run, config=tiny_run.config.model_copy(update={"index": index}))
    with pytest.raises(IndexQualityError) as error:
        export(run, tmp_path / "models", "tiny")
    message = (
        r"no setting of the index finds recall@100 0\.95 with 95 % confidence within 1e-06 ms per query: "
        r"the fastest takes \d+\.\d\d ms; raise index\.max_query_ms or lower index\.recall_target"
    )
    assert re.fullmatch(message, str(error.value))
    assert list(tmp_path.rglob("*")) == []


def answer(ids: list[str], scores: list[float]) -> dict[str, Any]:
    return {"item_ids": np.array([ids]), "scores": np.array([scores], np.float32)}


@pytest.mark.parametrize(
    ("ids", "scores", "same"),
    [
        (["a", "b", "c"], [0.9, 0.5, 0.3], True),
        (["a", "b", "c"], [0.90001, 0.50001, 0.29999], True),
        (["a", "b", "c"], [0.9, 0.51, 0.3], False),  # another score
        (["b", "a", "c"], [0.9, 0.5, 0.3], False),  # two items changed places
        (["a", "b", "d"], [0.9, 0.5, 0.3], True),  # a tie with the last
        (["a", "d", "c"], [0.9, 0.5, 0.3], False),  # an unseen item among the first
        (["a", "b", "c"], [0.9, 0.5, float("nan")], False),
    ],
)
def test_answers_are_the_same_up_to_ties(ids: list[str], scores: list[float], same: bool) -> None:
    assert same_answers(answer(["a", "b", "c"], [0.9, 0.5, 0.3]), answer(ids, scores)) is same


def test_items_that_tie_may_change_places() -> None:
    assert same_answers(answer(["a", "b", "c"], [0.9, 0.5, 0.5]), answer(["a", "c", "b"], [0.9, 0.50001, 0.5]))


def test_every_row_of_a_batch_is_compared() -> None:
    one = {"item_ids": np.array([["a", "b"], ["c", "d"]]), "scores": np.array([[2, 1], [2, 1]], np.float32)}
    other = {"item_ids": np.array([["a", "b"], ["d", "c"]]), "scores": np.array([[2, 1], [2, 1]], np.float32)}
    assert same_answers(one, one)
    assert not same_answers(one, other)
