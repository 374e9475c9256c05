"""What happens between steps, fed by hand; the values of the validation metric are in test_training.py."""

import math
import os
import re
import sys
import time
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from oracle import Oracle

from recsys.callbacks import RefreshHardItems, RequireFiniteLoss, RequireFiniteWeights, ValidationMetric
from recsys.errors import ConfigError, TrainingError
from recsys.interactions import load_interactions
from recsys.progress import TrainingProgress
from recsys.run import Run, open_run
from recsys.sampling import HardItems


def watch_epochs(epochs: list[list[float]]) -> int:
    """Feeds losses as `fit` does at 200 steps per epoch, and returns how many of the last epoch were taken."""
    guard, steps = RequireFiniteLoss(), 0
    guard.set_params({"steps": 200})
    try:
        for epoch, losses in enumerate(epochs):
            guard.on_epoch_begin(epoch)
            for steps, loss in enumerate(losses, start=1):
                guard.on_train_batch_end(steps - 1, {"loss": tf.constant(loss)})
            guard.on_epoch_end(epoch)
    except TrainingError as error:
        error.add_note(f"{steps} steps")
        raise
    return steps


@pytest.mark.parametrize(
    ("epochs", "batch", "epoch", "step", "taken"),
    [
        ([[1.0] * 99 + [math.nan] * 51], 100, 1, 100, 128),
        ([[1.0] * 64 + [math.nan] * 9], 65, 1, 65, 73),
        ([[1.0] * 200, [2.0] * 200, [math.nan]], 1, 3, 401, 1),
        ([[1.0] * 200, [2.0] * 63 + [math.nan, 1.0]], 64, 2, 264, 64),
    ],
)
def test_the_batch_is_told_at_which_the_loss_stopped_being_a_number(
    epochs: list[list[float]], batch: int, epoch: int, step: int, taken: int
) -> None:
    """Some steps later, but within 64, and before the epoch's other callbacks see its end."""
    with pytest.raises(TrainingError) as error:
        watch_epochs(epochs)
    assert str(error.value) == (
        f"the loss is nan at batch {batch} of epoch {epoch} (step {step}): expected a finite number; lower the "
        "learning rate, or look for extreme values in numeric features"
    )
    assert error.value.__notes__ == [f"{taken} steps"]


def test_a_last_step_that_spoils_the_weights_is_told_by_the_validation_metric(tiny_run: Run) -> None:
    """Its loss, that of the weights before it, was a number."""
    run = open_run(tiny_run.path)
    metric = ValidationMetric(run.towers, run.dataset, load_interactions(run.dataset), run.config)
    metric.set_params({"steps": 7})
    logs: dict[str, float] = {}
    metric.on_epoch_end(0, logs)
    assert set(logs) == {"val_ndcg@20"}
    run.towers.candidate.set_weights([weight * math.nan for weight in run.towers.candidate.get_weights()])
    with pytest.raises(TrainingError) as error:
        metric.on_epoch_end(1, {})
    assert str(error.value) == (
        "a validation score is nan after batch 7 of epoch 2 (step 14): expected a finite number; lower the learning "
        "rate, or look for extreme values in numeric features"
    )


def test_without_validation_the_weights_themselves_are_looked_at(tiny_run: Run) -> None:
    run = open_run(tiny_run.path)
    look = RequireFiniteWeights()
    look.set_model(run.towers.candidate)
    look.set_params({"steps": 7})
    look.on_epoch_end(0)
    run.towers.candidate.set_weights([weight * math.inf for weight in run.towers.candidate.get_weights()])
    with pytest.raises(TrainingError) as error:
        look.on_epoch_end(1)
    assert str(error.value) == (
        "a weight is nan or infinite after batch 7 of epoch 2 (step 14): expected a finite number; lower the learning "
        "rate, or look for extreme values in numeric features"
    )


def test_each_user_s_hardest_items_are_found_by_the_weights_of_now(tiny_run: Run) -> None:
    """All scores in NumPy, without the user's train items; new weights find others."""
    run = open_run(tiny_run.path)
    interactions = load_interactions(run.dataset)
    hard = HardItems(200, 5, run.dataset.users.num_rows)
    refresh = RefreshHardItems(hard, run.towers, run.dataset, interactions)
    users = np.arange(0, run.dataset.users.num_rows, 7)
    kept = run.towers.query.get_weights()
    found = []
    for weights in (kept, [weight[::-1] for weight in kept]):
        run.towers.query.set_weights(weights)
        refresh.on_epoch_begin(0)
        oracle = Oracle(run)
        drawn = hard.draw(tf.constant(users, tf.int32)).numpy()
        found.append([set(row.tolist()) for row in drawn])
        for user, row in zip(users, found[-1], strict=True):
            mine = (interactions.user_row == user) & (interactions.split == 0)
            taken = interactions.item_row[mine]
            names = [oracle.items[item] for item in taken]
            scores = oracle.candidates @ oracle.embed(oracle.users[user], names)
            scores[taken] = -np.inf
            assert row == set(np.argsort(-scores, kind="stable")[:5].tolist())
    assert found[0] != found[1]


def test_no_more_hard_items_than_there_are(tiny_run: Run) -> None:
    interactions = load_interactions(tiny_run.dataset)
    with pytest.raises(ConfigError) as error:
        RefreshHardItems(HardItems(1, 1000, 3), tiny_run.towers, tiny_run.dataset, interactions)
    assert str(error.value) == (
        "loss.negatives.hard_depth = 1000 is larger than the catalogue: expected at most "
        f"{tiny_run.dataset.items.num_rows}"
    )


def test_finite_losses_pass() -> None:
    assert watch_epochs([[1.0] * 200, [0.0] * 64, [-3.0]]) == 1


def test_no_step_waits_until_the_host_has_its_loss() -> None:
    """Keras copies each step's logs to the host unless every callback of steps takes them as they are."""
    seen: list[Any] = []

    class Spy(tf.keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self._supports_tf_logs = True

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append(logs["loss"])

    model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
    model.compile(loss="mse")
    callbacks = [RequireFiniteLoss(), TrainingProgress(1), Spy()]
    model.fit(np.ones((4, 2)), np.ones(4), batch_size=2, verbose=0, callbacks=callbacks)
    assert [tf.is_tensor(loss) for loss in seen] == [True, True]


def test_a_terminal_shows_a_bar_of_the_epoch_s_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    screen, writer = os.openpty()
    with os.fdopen(writer, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        progress = TrainingProgress(2)
        progress.set_params({"steps": 4})
        progress.on_train_begin()
        for epoch in range(2):
            progress.on_epoch_begin(epoch)
            for batch in range(3):
                progress.on_train_batch_end(batch)
            time.sleep(0.25)  # it is drawn ten times a second
            progress.on_epoch_end(epoch, {"loss": 1.5})
        progress.on_train_end()
        terminal.flush()
        shown = os.read(screen, 100_000).decode()
    os.close(screen)
    assert re.search(r"epoch 2/2 [^ ]*━+", shown)
    assert re.search(r"epoch 1/2  loss 1\.5000  0\.\d s", shown)
