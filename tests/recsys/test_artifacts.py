"""Directories and files that are whole or absent."""

import errno
import glob
import hashlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tensorflow as tf

from recsys.artifacts import new_directory, new_file, refuse_existing, sha256_of, write_json
from recsys.errors import OutputError, OutputExistsError


def test_a_directory_appears_when_its_block_ends(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with new_directory(out) as folder:
        (folder / "a.txt").write_text("a")
        assert not out.exists()
        assert folder.parent == out.parent
    assert (out / "a.txt").read_text() == "a"
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert out.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with new_directory(tmp_path / "out") as folder:
            (folder / "a.txt").write_text("a")
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_path_is_refused_before_the_block(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    entered = False
    with pytest.raises(OutputExistsError) as error, new_directory(tmp_path / "out"):
        entered = True
    assert not entered
    assert str(error.value) == (
        f"{tmp_path}/out exists: expected a new directory; choose another name or remove it first"
    )


def test_a_path_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def race() -> None:
        with new_directory(out) as folder:
            (folder / "a.txt").write_text("ours")
            out.mkdir()

    with pytest.raises(OutputExistsError):
        race()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert list(out.iterdir()) == []


def test_a_file_appears_when_its_block_ends(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out.txt"
    with new_file(out) as partial:
        partial.write_text("a")
        assert not out.exists()
    assert out.read_text() == "a"
    assert [path.name for path in out.parent.iterdir()] == ["out.txt"]


def test_an_exception_leaves_no_file_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyError), new_file(tmp_path / "deep" / "out.txt") as partial:  # noqa: PT012
        partial.write_text("a")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_or_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    with pytest.raises(OutputExistsError), new_file(out) as partial:  # noqa: PT012
        partial.write_text("ours")
        out.write_text("mine")
    with pytest.raises(OutputExistsError) as error, new_file(out):
        pass
    assert str(error.value) == f"{out} exists: expected a new file; choose another name or remove it first"
    assert (out.read_text(), list(tmp_path.iterdir())) == ("mine", [out])


WRITERS = {
    "python": "(folder / 'a').write_bytes(bytes(100_000))",
    "parquet": "pq.write_table(pa.table({'a': np.random.rand(20_000)}), folder / 'a')",
    "tfrecord": "with tf.io.TFRecordWriter(str(folder / 'a')) as writer: writer.write(bytes(100_000))",
    "checkpoint": "tf.train.Checkpoint(v=tf.Variable(tf.zeros(100_000))).write(str(folder / 'a'))",
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, writer: str) -> None:
    """A limit on files fails writes as a full disk does, with another number."""
    program = f"""
import resource, sys
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
{"import tensorflow as tf" if "tf." in WRITERS[writer] else ""}
from recsys import artifacts, cli

def full(out):
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    with artifacts.new_directory(Path(out)) as folder:
        (folder / "whole").write_bytes(bytes(10_000))
        {WRITERS[writer]}

cli.app.command()(full)
cli.main()
"""
    out = tmp_path / "deep" / "out"
    done = subprocess.run([sys.executable, "-c", program, "full", str(out)], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == (
        f"recsys: {out} cannot be written (File too large): expected room for all of it; make room, or choose another "
        "place"
    )
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_device_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as error, new_directory(tmp_path / "out"):
        Path("/dev/full").write_text("a")
    assert str(error.value) == (
        f"{tmp_path}/out cannot be written (No space left on device): expected room for all of it; make room, or "
        "choose another place"
    )


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "No such file"), OSError("of its own")])
def test_other_errors_of_the_system_pass(tmp_path: Path, error: OSError) -> None:
    with pytest.raises(OSError) as found, new_directory(tmp_path / "out"):  # noqa: PT011  compared below
        raise error
    assert found.value is error


def test_memory_that_tensorflow_lacks_is_no_full_disk(tmp_path: Path) -> None:
    error = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
    with pytest.raises(tf.errors.ResourceExhaustedError) as found, new_directory(tmp_path / "out"):
        raise error
    assert found.value is error


@contextmanager
def attempt(out: Path, kind: str = "directory") -> Iterator[subprocess.Popen[str]]:
    """A process that has written half of `out`, and waits; it is killed at the end."""
    program = f"""
import time
from pathlib import Path
from recsys.artifacts import new_{kind}
with new_{kind}(Path({str(out)!r})) as partial:
    {"(partial / 'half')" if kind == "directory" else "partial"}.write_text("half")
    print("written", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_what_a_killed_attempt_has_left_is_removed_by_the_next(tmp_path: Path) -> None:
    for name in ("out", "out[1]", "other"):
        with attempt(tmp_path / name) as process:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert len(list(tmp_path.glob(".*.partial-*/half"))) == 3
    for name in ("out", "out[1]"):
        with new_directory(tmp_path / name) as folder:
            assert [file.parent for file in tmp_path.glob(f".{glob.escape(name)}.partial-*/*")] == []
            assert folder.is_dir()
    assert sorted(path.name for path in tmp_path.iterdir())[1:] == ["out", "out[1]"]
    assert len(list(tmp_path.glob(".other.partial-*/half"))) == 1


def test_a_killed_attempt_leaves_no_file_that_looks_whole(tmp_path: Path) -> None:
    with attempt(tmp_path / "out", "file") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    [left] = tmp_path.rglob("out")
    assert (left.parent.name[:13], left.read_text()) == (".out.partial-", "half")
    with new_file(tmp_path / "out") as partial:
        partial.write_text("whole")
    assert (tmp_path / "out").read_text() == "whole"
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_what_a_living_attempt_writes_is_left_alone(tmp_path: Path) -> None:
    with attempt(tmp_path / "out") as process:
        [living] = tmp_path.glob(".out.partial-*/half")
        with new_directory(tmp_path / "out") as folder:
            (folder / "whole").write_text("whole")
        assert living.read_text() == "half"
        assert process.poll() is None
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["whole"]


def test_attempts_of_one_process_leave_each_other_alone(tmp_path: Path) -> None:
    with new_directory(tmp_path / "a") as first:
        (first / "half").write_text("half")
        with pytest.raises(OutputExistsError), new_directory(tmp_path / "a") as second:  # noqa: PT012
            assert first != second
            assert (first / "half").read_text() == "half"
            (tmp_path / "a").mkdir()
        (tmp_path / "a").rmdir()
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["half"]


def test_many_attempts_at_once_never_lose_their_directory(tmp_path: Path) -> None:
    """One removes what is abandoned while the others make theirs and have not locked it yet."""
    program = f"""
from pathlib import Path
from recsys.artifacts import new_directory
for number in range(150):
    try:
        with new_directory(Path({str(tmp_path)!r}) / "out") as folder:
            (folder / "a").write_text("a")
            assert (folder / "a").read_text() == "a"
            raise KeyError
    except KeyError:
        pass
"""
    processes = [subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE) for _ in range(4)]
    assert [process.communicate()[1] for process in processes] == [b""] * 4
    assert list(tmp_path.iterdir()) == []


def test_an_absent_path_is_not_refused(tmp_path: Path) -> None:
    refuse_existing(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_reader_sees_whole_json_only(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    values = [{"n": n, "filler": [n] * 20_000} for n in range(2)]
    write_json(path, values[0])
    done = threading.Event()

    def write() -> None:
        for n in range(60):
            write_json(path, values[n % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while not done.is_set():
        assert json.loads(path.read_text()) in values
        reads += 1
    writer.join()
    assert reads > 10
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_sorted_and_refuses_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [2]})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": [\n    2\n  ],\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [2], "b": 1}


def test_sha256_covers_all_chunks(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "a.bin").write_bytes(content)
    assert sha256_of(tmp_path / "a.bin") == hashlib.sha256(content).hexdigest()
