"""A run's checkpoints: the last epoch's, from which training can go on, and the best one's, which is kept at last."""

import csv
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from recsys.artifacts import new_directory, write_json
from recsys.config import TrainConfig
from recsys.errors import RunError
from recsys.retrieval import RetrievalModel

_STATE = "state"
_HISTORY = "history.json"


class Checkpoints(tf.keras.callbacks.Callback):
    """Saves all that training consists of after each epoch, and ends it when the validation metric grows no more.

    A checkpoint is a directory `checkpoints/epoch-NNNN`, which appears when it is complete: weights, optimizer slots,
    the states of random generators, and the history of the run so far, from which the best epoch follows. The order of
    an epoch's batches follows from the epoch's number. So a run that is killed at any moment and resumed reaches the
    same weights as one that is not.
    """

    def __init__(
        self,
        run: Path,
        model: RetrievalModel,
        optimizer: tf.keras.optimizers.Optimizer,
        config: TrainConfig,
        validates: bool,
    ) -> None:
        """Takes the RUN directory, what is learned, and when to give up.

        Args:
          run: the directory.
          model: what is trained.
          optimizer: built, with its slots.
          config: names the metric, of whose values in the epochs' logs the largest is best, the first of equal ones.
          validates: whether the logs have it; otherwise the last epoch is best, and training ends with the last.
        """
        super().__init__()
        self._history = run / "history.csv"
        self._folder = run / "checkpoints"
        self._towers = tf.train.Checkpoint(query=model.query_tower, candidate=model.candidate_tower)
        self._everything = tf.train.Checkpoint(
            query=model.query_tower,
            candidate=model.candidate_tower,
            loss=model.loss_state,
            optimizer=optimizer,
            generators=model.random_generators,
        )
        self._monitored = f"val_{config.validation_metric}" if validates else None
        self._patience = config.patience
        self._rows: list[dict[str, float]] = []

    @property
    def num_epochs(self) -> int:
        """How many epochs are behind us."""
        return len(self._rows)

    @property
    def is_over(self) -> bool:
        """Whether the metric has not grown for as many epochs as patience allows."""
        return (
            self._monitored is not None and bool(self._rows) and self.num_epochs - 1 - self.best_epoch >= self._patience
        )

    @property
    def best_epoch(self) -> int:
        """The number of the best epoch, from 0."""
        monitored = self._monitored
        if monitored is None:
            return self.num_epochs - 1
        return max(range(self.num_epochs), key=lambda number: self._rows[number][monitored])

    @property
    def best_value(self) -> float | None:
        """What the validation metric was at the best epoch; None without one."""
        return None if self._monitored is None else self._rows[self.best_epoch][self._monitored]

    def restore_last(self) -> None:
        """Continues after the last epoch that was saved; at the beginning when there is none.

        Raises:
          RunError: a checkpoint is damaged.
        """
        saved = self._saved()
        if not saved:
            return
        with _refuse_damaged(saved[-1]):
            self._rows = json.loads((saved[-1] / _HISTORY).read_text(encoding="utf-8"))
            self._everything.read(str(saved[-1] / _STATE)).assert_consumed()
        self._write_history()

    def restore_best(self) -> None:
        """Gives the towers the weights of the best epoch.

        Raises:
          RunError: its checkpoint is damaged.
        """
        best = self._path(self.best_epoch)
        with _refuse_damaged(best):
            self._towers.read(str(best / _STATE)).expect_partial().assert_existing_objects_matched()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Saves the epoch, removes what is neither last nor best, and stops training when it is over."""
        self._rows.append({"epoch": epoch, **{name: float(value) for name, value in sorted((logs or {}).items())}})
        with new_directory(self._path(epoch)) as folder:
            self._everything.write(str(folder / _STATE))
            write_json(folder / _HISTORY, self._rows)
        for path in self._saved():
            if path not in (self._path(epoch), self._path(self.best_epoch)):
                shutil.rmtree(path)
        self._write_history()
        self.model.stop_training = self.is_over

    def _path(self, epoch: int) -> Path:
        return self._folder / f"epoch-{epoch + 1:04d}"

    def _saved(self) -> list[Path]:
        return sorted(self._folder.glob("epoch-*"))

    def _write_history(self) -> None:
        with self._history.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(self._rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self._rows)


@contextmanager
def _refuse_damaged(checkpoint: Path) -> Iterator[None]:
    """Makes a `RunError` of what reading a damaged checkpoint raises."""
    try:
        yield
    except (AssertionError, IndexError, ValueError, OSError, tf.errors.OpError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RunError(f"{checkpoint} is damaged ({reason}); remove the run and train again") from error
