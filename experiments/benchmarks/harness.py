"""Times our way and the peers' on the same work in one process, and reports the ratios.

Machines are shared and noisy: only ratios of runs that stood side by side are quoted.
"""

import json
import pkgutil
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.table import Table

import experiments.benchmarks
from experiments.tables import stdout
from recsys.errors import ConfigError

_HELPERS = ("harness", "http_load")

# Does its work once and returns how much it was: rows, steps, requests.
Way = Callable[[], int]

_TOOLS = ("recsys", "tensorflow", "tf-keras", "tensorflow-recommenders", "scann", "numpy", "pandas", "pyarrow")


@dataclass(frozen=True)
class Pairs:
    """Runs of our way and of a peer, pair by pair; a pair's runs followed each other.

    Attributes:
      units: what a run does, the same for both.
      ours_seconds, peer_seconds: one duration per pair.
    """

    units: int
    ours_seconds: tuple[float, ...]
    peer_seconds: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """How many times faster ours is: the median over pairs."""
        return statistics.median(peer / ours for ours, peer in zip(self.ours_seconds, self.peer_seconds, strict=True))


@dataclass(frozen=True)
class Report:
    """What a benchmark found.

    Attributes:
      cases: the factor that the benchmark is about, per case.
      tables: what a person reads; they tell the conditions too, such as batch size or recall.
      higher_is_better: whether the weakest case is the lowest or, as for growth, the highest.
      headline: the case that is quoted, where cases are of several kinds and have no weakest.
    """

    cases: Mapping[str, float]
    tables: Sequence[Table]
    higher_is_better: bool = True
    headline: str | None = None

    @property
    def ratio(self) -> float:
        """The headline's, or else the weakest case's."""
        if self.headline is not None:
            return self.cases[self.headline]
        return (min if self.higher_is_better else max)(self.cases.values())


def run_benchmark(name: str) -> None:
    """Runs `experiments/benchmarks/<name>.py`, prints its tables and, as the last line, its row of JSON.

    Raises:
      ConfigError: there is none of that name.
    """
    known = benchmark_names()
    if name not in known:
        raise ConfigError(f"no benchmark is called {name}: expected one of {', '.join(known)}")
    report = import_module(f"{experiments.benchmarks.__name__}.{name}").measure()
    for table in report.tables:
        stdout().print(table)
    print(json.dumps(row(name, report)))


def benchmark_names() -> list[str]:
    """Returns what `recsys bench` can run, sorted."""
    modules = pkgutil.iter_modules(experiments.benchmarks.__path__)
    return sorted(module.name for module in modules if module.name not in _HELPERS and not module.ispkg)


def row(name: str, report: Report) -> dict[str, Any]:
    """Returns the row that a benchmark ends with; ratios have four significant digits."""
    return {
        "bench": name,
        "ratio": _rounded(report.ratio),
        "cases": {case: _rounded(ratio) for case, ratio in report.cases.items()},
        "versions": {"python": platform.python_version(), **{tool: version(tool) for tool in _TOOLS}},
        "cpu": _cpu(),
    }


def time_pairs(ours: Way, peers: Mapping[str, Way], repeats: int) -> dict[str, Pairs]:
    """Times our way beside each peer's, after running each once to warm up.

    In every repeat, each peer has a run of ours next to its own; which of them comes first alternates.

    Raises:
      RuntimeError: a run did another amount of work than the first: what would be compared is not the same.
    """
    units = ours()
    for name, peer in peers.items():
        _require_same_work(name, peer(), units)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in peers}
    for repeat in range(repeats):
        for name, peer in peers.items():
            order = [("ours", ours), (name, peer)]
            taken = {label: _timed(label, way, units) for label, way in (order if repeat % 2 else order[::-1])}
            seconds[name].append((taken["ours"], taken[name]))
    return {
        name: Pairs(units, tuple(one for one, _ in pairs), tuple(other for _, other in pairs))
        for name, pairs in seconds.items()
    }


def pairs_table(title: str, unit: str, pairs: Mapping[str, Pairs]) -> Table:
    """Returns a table of medians: a row for each peer, with ours beside it."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("case", no_wrap=True)
    for heading in (f"our {unit}/s", "its", "ratio", "lowest", "highest"):
        table.add_column(heading, justify="right")
    for name, pair in pairs.items():
        ratios = [peer / ours for ours, peer in zip(pair.ours_seconds, pair.peer_seconds, strict=True)]
        rates = (f"{pair.units / statistics.median(s):,.0f}" for s in (pair.ours_seconds, pair.peer_seconds))
        table.add_row(name, *rates, *(f"{ratio:.2f}" for ratio in (pair.ratio, min(ratios), max(ratios))))
    return table


def _timed(name: str, way: Way, units: int) -> float:
    start = time.perf_counter()
    done = way()
    seconds = time.perf_counter() - start
    _require_same_work(name, done, units)
    return seconds


def _require_same_work(name: str, done: int, expected: int) -> None:
    if done != expected:
        raise RuntimeError(f"{name} did {done:,} units of work: expected {expected:,}, as our first run")


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _cpu() -> str:
    """The processor's name; of a Linux machine, the one that people know."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} × {names[0]}" if names else platform.processor() or platform.machine()
