"""Which version is stable and which canary."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from recsys.errors import BundleError
from serving.server.release import Decisions, Plan, make_plan, promote, read_decisions, roll_back


@pytest.mark.parametrize(
    ("published", "withdrawn", "promoted", "has_canary", "stable", "canary"),
    [
        ([], (), 0, False, None, None),
        ([3], (), 0, False, 3, None),
        ([3, 4, 7], (), 0, False, 7, None),
        ([3, 4, 7], (7,), 0, False, 4, None),
        ([3, 4], (3, 4), 0, True, None, None),
        ([3], (), 0, True, 3, None),
        ([3, 4, 7], (), 0, True, 4, 7),
        ([3, 4, 7], (), 4, True, 4, 7),
        ([3, 4, 7], (), 7, True, 7, None),
        ([3, 4, 7], (7,), 0, True, 3, 4),
        ([3, 4, 7], (7,), 4, True, 4, None),
    ],
)
def test_the_newest_version_is_stable_or_on_trial(
    published: list[int],
    withdrawn: tuple[int, ...],
    promoted: int,
    has_canary: bool,
    stable: int | None,
    canary: int | None,
) -> None:
    decisions = Decisions(withdrawn=withdrawn, promoted=promoted)
    assert make_plan(published, decisions, has_canary) == Plan(stable=stable, canary=canary)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for version in (1, 2, 10):
        (tmp_path / "m" / str(version)).mkdir(parents=True)
    return tmp_path / "m"


def test_rolling_back_withdraws_the_newest_version_each_time(models: Path) -> None:
    assert roll_back(models) == (10, 2)
    assert roll_back(models) == (2, 1)
    assert json.loads((models / "serving.json").read_text()) == {"promoted": 0, "withdrawn": [10, 2]}
    with pytest.raises(BundleError) as error:
        roll_back(models)
    assert str(error.value) == f"{models} cannot be rolled back: expected an older version to serve, it has 1"
    (models / "11").mkdir()
    assert make_plan([1, 2, 10, 11], read_decisions(models), False).stable == 11


def test_promoting_keeps_what_was_withdrawn(models: Path) -> None:
    roll_back(models)
    assert promote(models) == 2
    assert read_decisions(models) == Decisions(withdrawn=(10,), promoted=2)


def test_a_folder_without_versions_has_nothing_to_promote_or_to_roll_back(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as error:
        promote(tmp_path)
    assert str(error.value) == f"{tmp_path} has no version to promote: export one first"
    with pytest.raises(BundleError) as error:
        roll_back(tmp_path)
    assert str(error.value) == f"{tmp_path} cannot be rolled back: expected an older version to serve, it has none"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "none", tmp_path / "file"):
        for decide in (promote, roll_back):
            with pytest.raises(BundleError) as error:
                decide(path)
            assert str(error.value) == (f"{path} holds no bundle: expected the folder of a model, <models>/<name>")


def test_decisions_of_several_processes_and_threads_are_all_kept(tmp_path: Path) -> None:
    for version in range(1, 102):
        (tmp_path / str(version)).mkdir()
    decide = "import pathlib, sys; from serving.server.release import roll_back\n"
    decide += "for _ in range(50): roll_back(pathlib.Path(sys.argv[1]))"
    other = subprocess.Popen([sys.executable, "-c", decide, str(tmp_path)])
    while not (tmp_path / "serving.json").exists():
        assert other.poll() is None
        time.sleep(0.001)
    with ThreadPoolExecutor(4) as threads:
        withdrawn = [version for version, _ in threads.map(lambda _: roll_back(tmp_path), range(50))]
    assert other.wait(60) == 0
    assert len(set(withdrawn)) == 50
    assert read_decisions(tmp_path).withdrawn == tuple(range(101, 1, -1))


@pytest.mark.parametrize("content", ["", "[]", '{"withdrawn": "all"}', '{"surprise": 1}', "\xff"])
def test_damaged_decisions_are_refused(models: Path, content: str) -> None:
    (models / "serving.json").write_text(content, encoding="latin-1")
    with pytest.raises(BundleError) as error:
        roll_back(models)
    assert str(error.value) == (
        f"{models / 'serving.json'} is damaged: expected withdrawn and promoted; correct or remove it"
    )
