"""`recsys prepare` against a plain pandas script that writes an example per interaction.

Both are whole processes, and which of them comes first alternates. The script reads a file of its own, of fewer rows by
the same generator, for its time grows with the rows; what is compared is rows per second.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from rich.table import Table

from data_prep.sources import open_source, read_source
from experiments.benchmarks.harness import Report
from recsys.errors import RecsysError

_ROWS = 20_000_000
_FEWER_ROWS = 5_000_000
_SCRIPT_ROWS = 1_000_000
_REPEATS = 3
_SOURCE = "synthetic:users=1000000,items=200000,shortlist=1,interactions="
_COLUMNS = ("user_id", "item_id", "timestamp", "rating")
_SCHEMA = 'history_length = {history_length}\n[interactions]\nlabel = "rating"\n'
# Name of the case: suffix of the source and length of the histories.
_CASES = {"csv": ("csv", 0), "parquet": ("parquet", 0), "csv_history_20": ("csv", 20)}


@dataclass(frozen=True)
class Run:
    """One process: how many rows it took, its seconds, and the most memory it held."""

    rows: int
    seconds: float
    peak_bytes: int

    @property
    def rows_per_second(self) -> float:
        """The rate, start of the process included."""
        return self.rows / self.seconds


_Way = Callable[[int], Run]


def measure(
    rows: int = _ROWS, fewer_rows: int = _FEWER_ROWS, script_rows: int = _SCRIPT_ROWS, repeats: int = _REPEATS
) -> Report:
    """Prepares a CSV and a Parquet file without histories, and a CSV with histories of 20."""
    table = Table(title=f"{rows:,} rows of {', '.join(_COLUMNS)}", title_justify="left", box=None, pad_edge=False)
    table.add_column("case", no_wrap=True)
    for heading in ("our rows/s", "script's", "ratio", "lowest", "highest", "peak GB", f"of {fewer_rows:,} rows"):
        table.add_column(heading, justify="right")
    cases = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for size in (rows, fewer_rows, script_rows):
            _write_sources(folder, size)
        for name, (suffix, history_length) in _CASES.items():
            fewer = _prepare(folder, suffix, fewer_rows, history_length)
            ways = (partial(_prepare, folder, suffix, rows), partial(_script, folder, suffix, script_rows))
            pairs = [_in_turns(ways, history_length, repeat % 2 == 1) for repeat in range(repeats)]
            ratios = [ours.rows_per_second / script.rows_per_second for ours, script in pairs]
            cases[name] = statistics.median(ratios)
            rates = (statistics.median(run.rows_per_second for run in runs) for runs in zip(*pairs, strict=True))
            peak = max(ours.peak_bytes for ours, _ in pairs)
            table.add_row(
                name,
                *(f"{rate:,.0f}" for rate in rates),
                *(f"{ratio:.2f}" for ratio in (cases[name], min(ratios), max(ratios))),
                *(f"{size / 1e9:.2f}" for size in (peak, fewer.peak_bytes)),
            )
    return Report(cases, [table])


def _write_sources(folder: Path, rows: int) -> None:
    """Writes the same synthetic rows as CSV and as Parquet, a batch at a time."""
    schema = None
    for batch in read_source(open_source(f"{_SOURCE}{rows}"), _COLUMNS):
        if schema is None:
            schema = batch.table.schema
            unquoted = pa.csv.WriteOptions(quoting_style="none")
            csv = pa.csv.CSVWriter(str(folder / f"{rows}.csv"), schema, write_options=unquoted)
            parquet = pq.ParquetWriter(folder / f"{rows}.parquet", schema)
        csv.write_table(batch.table)
        parquet.write_table(batch.table)
    csv.close()
    parquet.close()


def _prepare(folder: Path, suffix: str, rows: int, history_length: int) -> Run:
    schema = folder / f"{history_length}.toml"
    schema.write_text(_SCHEMA.format(history_length=history_length))
    with tempfile.TemporaryDirectory(dir=folder) as out:
        arguments = ["recsys.cli", "prepare", str(folder / f"{rows}.{suffix}"), "--schema", str(schema)]
        return _run([*arguments, "--out", f"{out}/dataset"], rows)


def _script(folder: Path, suffix: str, rows: int, history_length: int) -> Run:
    with tempfile.TemporaryDirectory(dir=folder) as out:
        module = "experiments.benchmarks.peers.pandas_script"
        return _run([module, str(folder / f"{rows}.{suffix}"), out, str(history_length)], rows)


def _in_turns(ways: tuple[_Way, _Way], history_length: int, reverse: bool) -> tuple[Run, Run]:
    """Runs both ways one after the other, the second one first if `reverse`."""
    if reverse:
        second, first = ways[1](history_length), ways[0](history_length)
    else:
        first, second = ways[0](history_length), ways[1](history_length)
    return first, second


def _run(module_and_arguments: list[str], rows: int) -> Run:
    """Runs a module in a process of its own.

    Raises:
      RecsysError: it failed.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *module_and_arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RecsysError(f"{' '.join(module_and_arguments)} ended with exit code {process.returncode}: expected 0")
    unit = 1 if sys.platform == "darwin" else 1024
    return Run(rows, seconds, usage.ru_maxrss * unit)
