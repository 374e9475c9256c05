"""`recsys quickstart` in a process of its own, as a newcomer runs it."""

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
# Of both processors together, as the wall clock of a shared machine says little; its own bound is 120 s.
LIMIT_CPU_SECONDS = 120
LIMIT_KIB = 3 * 1024 * 1024


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, float]:
    """Its folder, what it printed and the processor seconds it took."""
    folder = tmp_path_factory.mktemp("newcomer")
    before = cpu_seconds()
    command = [sys.executable, "-m", "recsys.cli", "quickstart"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "quickstart", done.stdout, cpu_seconds() - before


def test_it_keeps_its_promises_of_time_and_memory(quickstart: tuple[Path, str, float]) -> None:
    assert quickstart[2] < LIMIT_CPU_SECONDS
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < LIMIT_KIB


def test_it_prints_data_metrics_index_and_three_users(quickstart: tuple[Path, str, float]) -> None:
    printed = quickstart[1]
    assert re.search(r"^interactions +\d+,\d+", printed, flags=re.MULTILINE)
    for row in ("two_tower", "popularity", "random"):
        assert re.search(rf"^{row} +0\.\d+ ±", printed, flags=re.MULTILINE), row
    assert re.search(r"recall@100 0\.9[5-9]\d+|recall@100 1\.0000", printed)
    assert len(re.findall(r"^User u\d+, who lately took: ", printed, flags=re.MULTILINE)) == 3
    assert len(re.findall(r"^ *\d+ +i\d+ +\w+ \w+ \d+ +\d\.\d+", printed, flags=re.MULTILINE)) == 30
    assert "What to try next" in printed


def test_the_model_beats_popularity_twice_over(quickstart: tuple[Path, str, float]) -> None:
    rows = json.loads((quickstart[0] / "run" / "metrics.json").read_text())["test"]["protocols"]["event"]["rows"]
    assert rows["two_tower"]["ndcg@20"]["mean"] > 2 * rows["popularity"]["ndcg@20"]["mean"]


def test_every_next_step_runs(quickstart: tuple[Path, str, float]) -> None:
    steps = re.findall(r"^  (recsys (?:recommend|evaluate) .*?)  ", quickstart[1], flags=re.MULTILINE)
    assert len(steps) == 3
    for step in steps:
        command = [sys.executable, "-m", "recsys.cli", *step.split()[1:]]
        done = subprocess.run(command, cwd=quickstart[0].parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{step}: {done.stderr[-2000:]}"


def test_tensorboard_starts() -> None:
    command = [str(Path(sys.executable).with_name("tensorboard")), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_it_replaces_only_what_it_made(tmp_path: Path) -> None:
    mine = tmp_path / "quickstart" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("keep")
    command = [sys.executable, "-m", "recsys.cli", "quickstart"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert (
        done.stderr == "recsys: quickstart exists: expected a new directory; choose another name or remove it first\n"
    )
    assert mine.read_text() == "keep"
