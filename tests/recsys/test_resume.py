"""A run that is killed and resumed is the run that was never killed."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from recsys.config import ExperimentConfig, RuntimeConfig
from recsys.dataset import Dataset
from recsys.errors import RunError, TrainingError
from recsys.run import open_run
from recsys.towers import Towers
from recsys.training import train

INTERACTIONS: dict[str, Any] = {
    "loss": {
        "negatives": {"uniform": 30, "popular": 20, "hard": 2, "hard_depth": 20},
        "learn_temperature": True,
        "log_q": "streaming",
    },
    "optimizer": {"adam": {}},
    "train": {"batch_size": 128, "epochs": 4},
}
SEQUENCES: dict[str, Any] = {
    "model": {"history": {"length": 8, "encoder": {"name": "self_attention"}}},
    "optimizer": {"adam": {"moments_fade_by": "all_steps"}, "schedule": {"warmup_steps": 5, "decay": "cosine"}},
    "train": {"examples": "sequences", "batch_size": 16, "epochs": 4},
}


SETS: dict[str, Any] = {
    "model": {"item_bias": True, "history": {"length": 8}},
    "loss": {"name": "unseen_softmax", "negatives": 50},
    "optimizer": {"adam": {"moments_fade_by": "all_steps"}},
    "train": {"examples": "sets", "batch_size": 16, "epochs": 4},
}


def experiment(values: dict[str, Any]) -> ExperimentConfig:
    model = {"embedding_dim": 8, **values.get("model", {})}
    return ExperimentConfig.model_validate({**values, "model": model})


def train_and_kill(
    config: ExperimentConfig, runtime: RuntimeConfig, dataset: Dataset, out: Path, line: str, seconds: float = 0
) -> None:
    """Trains, or goes on, in a process of its own, which is killed so long after it printed a line that begins so."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from recsys.config import ExperimentConfig, RuntimeConfig\n"
        "from recsys.dataset import open_dataset\n"
        "from recsys.training import train\n"
        "config, runtime, dataset, out = sys.argv[1:]\n"
        "config = ExperimentConfig.model_validate_json(config)\n"
        "runtime = RuntimeConfig.model_validate_json(runtime)\n"
        "train(config, runtime, open_dataset(Path(dataset)), Path(out), resume=True)\n"
    )
    arguments = [config.model_dump_json(exclude_none=True), runtime.model_dump_json(), str(dataset.path), str(out)]
    process = subprocess.Popen([sys.executable, "-c", program, *arguments], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = []
    for printed in process.stderr:
        said.append(printed)
        if printed.startswith(line):
            time.sleep(seconds)
            os.kill(process.pid, signal.SIGKILL)
            break
    process.stderr.close()
    assert process.wait() == -signal.SIGKILL, said


def weights(towers: Towers) -> list[np.ndarray]:
    return [*towers.query.get_weights(), *towers.candidate.get_weights()]


def history(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("values", "runtime"),
    [
        pytest.param(SEQUENCES, RuntimeConfig(), id="sequences", marks=pytest.mark.slow),
        pytest.param(SETS, RuntimeConfig(), id="sets", marks=pytest.mark.slow),
        pytest.param(
            INTERACTIONS,
            RuntimeConfig(strategy="mirrored", logical_cpus=2),
            id="two replicas",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_killed_run_goes_on_as_if_nothing_had_been(
    tiny_dataset: Dataset, tmp_path: Path, values: dict[str, Any], runtime: RuntimeConfig
) -> None:
    """With dropout, sampling, moments, a schedule and a learned temperature: the weights are the same bits, and so is
    the history.
    """
    config = experiment(values)
    whole = train(config, runtime, tiny_dataset, tmp_path / "whole")
    train_and_kill(config, runtime, tiny_dataset, tmp_path / "killed", "epoch 3/")
    with pytest.raises(RunError, match="is unfinished"):
        open_run(tmp_path / "killed")
    assert 2 <= len(history(tmp_path / "killed")) <= 3
    resumed = train(config, runtime, tiny_dataset, tmp_path / "killed", resume=True)
    assert history(tmp_path / "killed") == history(tmp_path / "whole")
    for one, other in zip(weights(whole), weights(resumed), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(weights(whole), weights(open_run(tmp_path / "killed").towers), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_at_any_moment_is_the_run_that_never_was(
    tiny_dataset: Dataset, tmp_path: Path
) -> None:
    """Epochs are so short that saving them takes a good part of the time."""
    config = experiment({"optimizer": {"adam": {}}, "train": {"batch_size": 256, "epochs": 60, "patience": 60}})
    whole = train(config, RuntimeConfig(), tiny_dataset, tmp_path / "whole")
    pauses = np.random.default_rng().uniform(0, 1, size=4)
    for seconds in pauses:
        train_and_kill(config, RuntimeConfig(), tiny_dataset, tmp_path / "killed", "epoch ", seconds)
    resumed = train(config, RuntimeConfig(), tiny_dataset, tmp_path / "killed", resume=True)
    assert history(tmp_path / "killed") == history(tmp_path / "whole"), pauses
    for one, other in zip(weights(whole), weights(resumed), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=str(pauses))


def test_a_run_keeps_its_last_and_its_best_epoch(tiny_dataset: Dataset, tmp_path: Path) -> None:
    values = {
        "train": {"batch_size": 64, "epochs": 8, "patience": 2},
        "optimizer": {"adagrad": {"learning_rate": 1.0}},
    }
    train(experiment(values), RuntimeConfig(), tiny_dataset, tmp_path / "run")
    rows = history(tmp_path / "run")
    best = 1 + int(np.argmax([float(row["val_ndcg@20"]) for row in rows]))
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == [f"epoch-{epoch:04d}" for epoch in sorted({best, len(rows)})]


def test_what_was_begun_otherwise_is_not_gone_on_with(tiny_dataset: Dataset, tmp_path: Path) -> None:
    config = experiment({"train": {"epochs": 1}})
    run = tmp_path / "run"
    train(config, RuntimeConfig(), tiny_dataset, run, resume=True)  # nothing there: begins
    with pytest.raises(RunError) as error:
        train(config, RuntimeConfig(), tiny_dataset, run, resume=True)
    assert str(error.value) == f"{run} is finished: expected an unfinished run to resume; choose another directory"
    (run / "model").rename(run / "gone")
    with pytest.raises(RunError) as error:
        train(experiment({"train": {"epochs": 2}}), RuntimeConfig(), tiny_dataset, run, resume=True)
    assert str(error.value) == (
        f"{run} was begun with train.epochs = 1: received 2; resume it with what it was begun with, or choose another "
        "directory"
    )
    for state in (run / "checkpoints").glob("*/state.data*"):
        state.write_bytes(b"")
    with pytest.raises(RunError, match=r"epoch-0001 is damaged \(.*\); remove the run and train again"):
        train(config, RuntimeConfig(), tiny_dataset, run, resume=True)


@pytest.mark.parametrize("other", [False, True])
def test_a_damaged_best_epoch_is_told(tiny_dataset: Dataset, tmp_path: Path, other: bool) -> None:
    """Emptied, or the checkpoint of something else; the last epoch, from which the run goes on, is whole."""
    values = {
        "train": {"batch_size": 64, "epochs": 8, "patience": 1},
        "optimizer": {"adagrad": {"learning_rate": 1.0}},
    }
    run = tmp_path / "run"
    train(experiment(values), RuntimeConfig(), tiny_dataset, run)
    (run / "model").rename(run / "gone")
    best, last = sorted((run / "checkpoints").iterdir())
    assert len(history(run)) == int(last.name[-4:])
    if other:
        tf.train.Checkpoint(step=tf.Variable(1)).write(str(best / "state"))
    else:
        (best / "state.index").write_bytes(b"")
    with pytest.raises(RunError) as error:
        train(experiment(values), RuntimeConfig(), tiny_dataset, run, resume=True)
    message = str(error.value)
    assert message.startswith(f"{best} is damaged (")
    assert message.endswith("); remove the run and train again")
    assert "\n" not in message
    assert not (run / "model").exists()


def test_a_loss_that_is_no_number_ends_training_where_it_arises(tiny_dataset: Dataset, tmp_path: Path) -> None:
    values = {
        "model": {"normalize": False},
        "optimizer": {"adagrad": {"learning_rate": 1e30}},
        "train": {"batch_size": 512},
    }
    with pytest.raises(TrainingError) as error:
        train(experiment(values), RuntimeConfig(), tiny_dataset, tmp_path / "run")
    assert re.fullmatch(
        r"the loss is (nan|inf) at batch (\d+) of epoch 1 \(step \2\): expected a finite number; lower the learning "
        "rate, or look for extreme values in numeric features",
        str(error.value),
    )
    assert not list(tf.io.gfile.glob(str(tmp_path / "run" / "model")))
