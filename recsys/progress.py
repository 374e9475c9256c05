"""Shows how training goes: a bar on a terminal, plain lines elsewhere, always on stderr."""

import sys
import time

import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class TrainingProgress(tf.keras.callbacks.Callback):
    """One line per epoch with its loss, metrics and seconds; on a terminal a bar of the epoch's steps before it."""

    def __init__(self, epochs: int) -> None:
        """Takes the number of epochs that training lasts at most."""
        super().__init__()
        # Keras would otherwise copy the logs to the host at every step.
        self._supports_tf_logs = True
        self._epochs = epochs
        console = Console(file=sys.stderr)
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = TaskID(0)
        self._started = 0.0

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Shows the bar."""
        self._task = self._bar.add_task("training", total=None)
        self._bar.start()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Removes the bar."""
        self._bar.stop()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Starts the epoch's clock."""
        self._started = time.monotonic()
        self._bar.reset(self._task, description=f"epoch {epoch + 1}/{self._epochs}", total=self.params["steps"])

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Moves the bar."""
        self._bar.advance(self._task)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Prints the epoch's line."""
        figures = "  ".join(f"{name} {value:.4f}" for name, value in (logs or {}).items())
        seconds = time.monotonic() - self._started
        line = f"epoch {epoch + 1}/{self._epochs}  {figures}  {seconds:.1f} s"
        self._bar.console.print(line, highlight=False, soft_wrap=True)
