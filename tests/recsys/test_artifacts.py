"""Directories and JSON files that are whole or absent."""

import hashlib
import json
import threading
from pathlib import Path

import pytest

from recsys.artifacts import new_directory, refuse_existing, sha256_of, write_json
from recsys.errors import OutputExistsError


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
