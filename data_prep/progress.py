"""Shows how preparation goes: a bar on a terminal, a line per stage elsewhere, always on stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Stage:
    """One stage of the work, and how many rows it has done."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        """Takes the bar to move."""
        self._bar, self._task = bar, task
        self.rows = 0

    def advance(self, rows: int) -> None:
        """Counts rows as done."""
        self.rows += rows
        self._bar.update(self._task, advance=rows, rows=f"{self.rows:,} rows")


@contextmanager
def stage(name: str, total: int | None = None) -> Iterator[Stage]:
    """Shows a stage while it runs, and prints its line when it is done.

    Args:
      name: what is being done.
      total: the rows to expect, if they are known.
    """
    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rows]}"), TimeElapsedColumn())
    started = time.monotonic()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        running = Stage(bar, bar.add_task(name, total=total, rows=""))
        yield running
    rows = f"  {running.rows:,} rows" if running.rows else ""
    line = f"{name}{rows}  {time.monotonic() - started:.1f} s"
    console.print(line, highlight=False, soft_wrap=True)
