"""Shows how work goes in stages: a bar on a terminal, a line per stage elsewhere, always on stderr. No TensorFlow."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Stage:
    """One stage of the work, and how much of it is done."""

    def __init__(self, bar: Progress, task: TaskID, unit: str) -> None:
        """Takes the bar to move, and what is counted."""
        self._bar, self._task, self._unit = bar, task, unit
        self._done = 0

    def advance(self, number: int) -> None:
        """Counts so many as done."""
        self._done += number
        self._bar.update(self._task, advance=number, done=str(self))

    def __str__(self) -> str:
        """How many are done."""
        return f"{self._done:,} {self._unit}" if self._done else ""


@contextmanager
def stage(name: str, total: int | None = None, unit: str = "rows") -> Iterator[Stage]:
    """Shows a stage while it runs, and prints its line when it is done.

    Args:
      name: what is being done.
      total: how many to expect, if that is known.
      unit: what is counted, in the plural.
    """
    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[done]}"), TimeElapsedColumn())
    started = time.monotonic()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        running = Stage(bar, bar.add_task(name, total=total, done=""), unit)
        yield running
    done = f"  {running}" if str(running) else ""
    line = f"{name}{done}  {time.monotonic() - started:.1f} s"
    console.print(line, highlight=False, soft_wrap=True)
