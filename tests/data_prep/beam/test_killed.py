"""A run that is killed leaves no dataset and no process, and the same command finishes the work."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from running_server import children

from data_prep.beam.pipeline import prepare_with_beam
from data_prep.pipeline import prepare
from data_prep.schema_files import load_data_config

SOURCE = "synthetic:users=150,items=80,interactions=2000"
# Forks once per preparation, so that the seconds of importing Beam and TensorFlow are spent once. The first is left to
# finish; of the others half are killed at moments of chance, half as soon as so many files of the dataset are seen.
KILLER = """
import os, random, signal, sys, time
from pathlib import Path
import tensorflow
import data_prep.beam.pipeline, data_prep.report_figures, data_prep.schema_files

source, folder = sys.argv[1], Path(sys.argv[2])

def start(name):
    child = os.fork()
    if child == 0:
        config = data_prep.schema_files.load_data_config(None, source)
        data_prep.beam.pipeline.prepare_with_beam(source, config, folder / name)
        os._exit(0)
    return child

def files_written(name):
    # os.walk passes over what is renamed while it walks.
    tops = [top for top in os.listdir(folder) if top.startswith(f".{name}.partial-")]
    return sum(len(files) for top in tops for _, _, files in os.walk(folder / top))

begun = time.monotonic()
assert os.waitpid(start("whole"), 0)[1] == 0
whole_seconds = time.monotonic() - begun
for trial in range(6):
    name = f"killed-{trial}"
    child, until = start(name), time.monotonic() + random.random() * whole_seconds
    while (time.monotonic() < until) if trial % 2 else (files_written(name) < 1 + 5 * trial):
        if os.waitpid(child, os.WNOHANG)[0]:
            break
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
"""


def files_of(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


@pytest.mark.slow
def test_a_killed_run_leaves_a_whole_dataset_or_none(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", KILLER, SOURCE, str(tmp_path)], check=True, env=environment)
    config = load_data_config(None, SOURCE)
    prepare(SOURCE, config, tmp_path / "here")
    whole = files_of(tmp_path / "here")
    assert len(whole) > 8
    assert files_of(tmp_path / "whole") == whole
    for path in tmp_path.glob("killed-*"):
        assert files_of(path) == whole
    interrupted = sorted(tmp_path.glob(".killed-*.partial-*"))
    assert len(interrupted) >= 2
    for number in range(6):
        name = f"killed-{number}"
        if not (tmp_path / name).exists():
            prepare_with_beam(SOURCE, config, tmp_path / name)
            assert files_of(tmp_path / name) == whole
            assert not list(tmp_path.glob(f".{name}.partial-*"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="only Linux tells the children of a process so")
def test_the_workers_of_a_killed_run_end(tmp_path: Path) -> None:
    options = ["--engine", "beam", "--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    command = [sys.executable, "-m", "recsys.cli", "prepare", SOURCE, "--out", str(tmp_path / "out"), *options]
    run = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(tmp_path)}, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while len(workers := children(run.pid)) < 2:
            assert run.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
    finally:
        run.kill()
        run.wait()
    until = time.monotonic() + 30
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < until, "the workers go on"
        time.sleep(0.1)
    assert not (tmp_path / "out").exists()
