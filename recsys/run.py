"""A RUN directory: what was trained, from what, and the towers."""

import json
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tensorflow as tf
import tomli_w

from recsys.artifacts import new_directory, write_json
from recsys.config import ExperimentConfig, RuntimeConfig
from recsys.dataset import Dataset, open_dataset
from recsys.errors import RunError
from recsys.toml_config import load_toml
from recsys.towers import Towers, build_towers

_TOOLS = ("numpy", "recsys", "scann", "tensorflow", "tensorflow-recommenders", "tf-keras")
_WEIGHTS = "towers"


@dataclass(frozen=True)
class Run:
    """A finished RUN directory, opened.

    Attributes:
      path: the directory.
      config: what was learned, fully resolved.
      dataset: what it was learned from.
      towers: with trained weights.
    """

    path: Path
    config: ExperimentConfig
    dataset: Dataset
    towers: Towers


def start_run(path: Path, config: ExperimentConfig, runtime: RuntimeConfig, dataset: Dataset) -> None:
    """Makes the directory, with `config.toml` and `environment.json`; `path` must not exist."""
    with new_directory(path) as folder:
        (folder / "config.toml").write_text(tomli_w.dumps(config.model_dump(mode="json")), encoding="utf-8")
        environment = {
            "dataset": str(dataset.path.resolve()),
            "dataset_sha256": dataset.fingerprint,
            "git_commit": _git_commit(),
            "python": platform.python_version(),
            "runtime": runtime.model_dump(),
            "seed": config.train.seed,
            "versions": {tool: version(tool) for tool in _TOOLS},
        }
        write_json(folder / "environment.json", environment)


def save_towers(path: Path, towers: Towers) -> None:
    """Writes `model/`, which marks the run as finished."""
    with new_directory(path / "model") as folder:
        _checkpoint(towers).write(str(folder / _WEIGHTS))


def open_run(path: Path, dataset_path: Path | None = None) -> Run:
    """Opens a finished run and the dataset it was trained on.

    Args:
      path: the RUN directory.
      dataset_path: where the dataset is now; where it was at training when None.

    Raises:
      RunError: the run is missing or unfinished, or the dataset is another one.
      DatasetError: the dataset is missing or damaged.
    """
    if not (path / "environment.json").is_file():
        raise RunError(f"{path} is no run: expected {path / 'environment.json'}; make one with `recsys train`")
    if not (path / "model").is_dir():
        raise RunError(f"{path} is unfinished: it has no model/; remove it and train again")
    environment: dict[str, Any] = json.loads((path / "environment.json").read_text(encoding="utf-8"))
    dataset = open_dataset(Path(environment["dataset"]) if dataset_path is None else dataset_path)
    if dataset.fingerprint != environment["dataset_sha256"]:
        raise RunError(
            f"{path} was trained on another dataset than {dataset.path}: expected manifest "
            f"{environment['dataset_sha256'][:12]}, received {dataset.fingerprint[:12]}; name the right one, --dataset"
        )
    config = load_toml(ExperimentConfig, path / "config.toml")
    towers = build_towers(dataset.schema, config.model)
    _checkpoint(towers).read(str(path / "model" / _WEIGHTS)).assert_existing_objects_matched().expect_partial()
    return Run(path, config, dataset, towers)


def _checkpoint(towers: Towers) -> tf.train.Checkpoint:
    return tf.train.Checkpoint(query=towers.query, candidate=towers.candidate)


def _git_commit() -> str | None:
    """The commit of the working directory; None where there is no repository or no git."""
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
