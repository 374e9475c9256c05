"""A RUN directory: what it holds, what is read back, and what is refused."""

import hashlib
import json
import shutil
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.config import RuntimeConfig
from recsys.dataset import Dataset
from recsys.errors import DatasetError, OutputExistsError, RunError
from recsys.run import Run, open_run, save_towers, start_run


@pytest.fixture
def run_copy(tiny_run: Run, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(tiny_run.path, tmp_path / "run"))


def refusal(path: Path, dataset: Path | None = None) -> str:
    with pytest.raises(RunError) as error:
        open_run(path, dataset)
    return str(error.value)


def test_config_toml_names_every_setting(tiny_run: Run) -> None:
    config = tomllib.loads((tiny_run.path / "config.toml").read_text(encoding="utf-8"))
    assert sorted(config) == ["bundle", "index", "loss", "model", "optimizer", "train"]
    assert (config["model"]["embedding_dim"], config["model"]["normalize"]) == (16, True)
    assert config["model"]["history"] == {
        "encoder": {"name": "mean"},
        "share_item_table": True,
        "id_dropout": 0.1,
        "content_features": False,
    }
    assert config["train"]["batch_size"] == 256
    assert tiny_run.config.model_dump(mode="json", exclude_none=True) == config


def test_environment_json_tells_where_a_run_comes_from(tiny_run: Run, tiny_dataset: Dataset) -> None:
    environment: dict[str, Any] = json.loads((tiny_run.path / "environment.json").read_text(encoding="utf-8"))
    manifest = (tiny_dataset.path / "manifest.json").read_bytes()
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    assert environment["dataset"] == str(tiny_dataset.path.resolve())
    assert environment["dataset_sha256"] == hashlib.sha256(manifest).hexdigest()
    assert environment["git_commit"] == (head or None)
    assert environment["runtime"] == {
        "strategy": "one_device",
        "logical_cpus": 1,
        "mixed_precision": "none",
        "xla": False,
        "profile_batches": None,
    }
    assert environment["seed"] == 0
    assert environment["format_version"] == 1
    assert environment["devices"] == ["/device:CPU:0"]
    tools = ["numpy", "recsys", "scann", "tensorflow", "tensorflow-recommenders", "tf-keras"]
    assert environment["versions"] == {tool: version(tool) for tool in tools}


def test_saved_towers_come_back(tiny_run: Run, tiny_dataset: Dataset, tmp_path: Path) -> None:
    start_run(tmp_path / "again", tiny_run.config, RuntimeConfig(), tiny_dataset, ("CPU:0",))
    save_towers(tmp_path / "again", tiny_run.towers)
    again = open_run(tmp_path / "again")
    for tower, other in [
        (tiny_run.towers.query, again.towers.query),
        (tiny_run.towers.candidate, again.towers.candidate),
    ]:
        for one, two in zip(tower.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(one, two)


def test_a_missing_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nothing"
    expected = f"{path} is no run: expected {path / 'environment.json'}; make one with `recsys train`"
    assert refusal(path) == expected


def test_an_unfinished_run_is_refused(run_copy: Path) -> None:
    shutil.rmtree(run_copy / "model")
    assert refusal(run_copy) == f"{run_copy} is unfinished: it has no model/; finish it with `recsys train … --resume`"


def test_another_dataset_is_refused(run_copy: Path, tiny_dataset: Dataset, tmp_path: Path) -> None:
    other = Path(shutil.copytree(tiny_dataset.path, tmp_path / "other"))
    file = other / "manifest.json"
    manifest = file.read_text(encoding="utf-8")
    file.write_text(manifest.replace('"seed": 0', '"seed": 1'), encoding="utf-8")
    right, wrong = (hashlib.sha256(text.encode()).hexdigest() for text in (manifest, file.read_text(encoding="utf-8")))
    assert right != wrong
    assert refusal(run_copy, other) == (
        f"{run_copy} was trained on another dataset than {other}: expected manifest {right[:12]}, "
        f"received {wrong[:12]}; name the right one, --dataset"
    )


def test_a_dataset_that_moved_is_found_where_it_is_now(run_copy: Path, tiny_dataset: Dataset, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(tiny_dataset.path, tmp_path / "moved"))
    assert open_run(run_copy, moved).dataset.path == moved
    environment = json.loads((run_copy / "environment.json").read_text(encoding="utf-8"))
    (run_copy / "environment.json").write_text(json.dumps(environment | {"dataset": str(tmp_path / "gone")}))
    with pytest.raises(DatasetError) as error:
        open_run(run_copy)
    gone = tmp_path / "gone"
    expected = f"{gone} is no dataset: expected {gone / 'manifest.json'}; make one with `recsys prepare`"
    assert str(error.value) == expected


def test_an_existing_directory_is_not_overwritten(tiny_run: Run, tiny_dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(OutputExistsError) as error:
        start_run(tmp_path, tiny_run.config, RuntimeConfig(), tiny_dataset, ("CPU:0",))
    assert str(error.value) == (f"{tmp_path} exists: expected a new directory; choose another name or remove it first")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"format_version": 99}', "{run} has run format 99: expected 1; train again with this release"),
        ('{"format_version": 1', "{run}/environment.json is damaged (Expecting ',' delimiter"),
        ('{"format_version": 1}', "{run}/environment.json is damaged (8 validation errors for Environment)"),
    ],
)
def test_a_damaged_environment_is_refused(run_copy: Path, content: str, complaint: str) -> None:
    (run_copy / "environment.json").write_text(content)
    assert refusal(run_copy).startswith(complaint.format(run=run_copy))


def test_damaged_weights_are_refused(run_copy: Path) -> None:
    (run_copy / "model" / "towers.index").write_bytes(b"")
    said = refusal(run_copy)
    assert said.startswith(f"{run_copy / 'model'} is damaged or of other towers (")
    assert said.endswith("); train again")
