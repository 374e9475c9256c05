"""A RUN directory: what was trained, from what, and the towers."""

import json
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import tensorflow as tf
import tomli_w
from pydantic import ValidationError

from recsys.artifacts import new_directory, write_json
from recsys.config import ExperimentConfig, RuntimeConfig
from recsys.dataset import Dataset, open_dataset
from recsys.errors import RunError
from recsys.schema import Frozen
from recsys.toml_config import flat, load_toml
from recsys.towers import Towers, build_towers

_TOOLS = ("numpy", "recsys", "scann", "tensorflow", "tensorflow-recommenders", "tf-keras")
_WEIGHTS = "towers"
FORMAT_VERSION = 1


class Environment(Frozen):
    """The content of `environment.json`.

    Attributes:
      format_version: of the RUN directory.
      dataset: where the dataset was.
      dataset_sha256: its manifest.
      devices: that trained, one per replica.
      git_commit: of the checkout that the code was run from; None when it was not one.
      python: its version.
      runtime: the runtime file's content.
      seed: of weights, shuffling and dropout.
      versions: of the packages that matter.
    """

    format_version: int
    dataset: str
    dataset_sha256: str
    devices: tuple[str, ...]
    git_commit: str | None
    python: str
    runtime: RuntimeConfig
    seed: int
    versions: dict[str, str]


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


def start_run(
    path: Path, config: ExperimentConfig, runtime: RuntimeConfig, dataset: Dataset, devices: tuple[str, ...]
) -> None:
    """Makes the directory, with `config.toml` and `environment.json`; `path` must not exist."""
    environment = Environment(
        format_version=FORMAT_VERSION,
        dataset=str(dataset.path.resolve()),
        dataset_sha256=dataset.fingerprint,
        devices=devices,
        git_commit=_git_commit(),
        python=platform.python_version(),
        runtime=runtime,
        seed=config.train.seed,
        versions={tool: version(tool) for tool in _TOOLS},
    )
    with new_directory(path) as folder:
        (folder / "config.toml").write_text(
            tomli_w.dumps(config.model_dump(mode="json", exclude_none=True)), encoding="utf-8"
        )
        write_json(folder / "environment.json", environment.model_dump(mode="json"))


def require_same_beginning(path: Path, config: ExperimentConfig, runtime: RuntimeConfig, dataset: Dataset) -> None:
    """Refuses to go on with what was begun otherwise.

    Raises:
      RunError: the run is finished or no run, or had another configuration, runtime or dataset.
    """
    environment = _read_environment(path)
    if (path / "model").is_dir():
        raise RunError(f"{path} is finished: expected an unfinished run to resume; choose another directory")
    begun = flat(load_toml(ExperimentConfig, path / "config.toml").model_dump(mode="json"))
    begun |= {"dataset": environment.dataset_sha256[:12], **flat({"runtime": environment.runtime.model_dump()})}
    asked = flat(config.model_dump(mode="json"))
    asked |= {"dataset": dataset.fingerprint[:12], **flat({"runtime": runtime.model_dump()})}
    for key in sorted(begun.keys() | asked.keys()):
        if begun.get(key) != asked.get(key):
            raise RunError(
                f"{path} was begun with {key} = {begun.get(key)}: received {asked.get(key)}; "
                "resume it with what it was begun with, or choose another directory"
            )


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
      RunError: the run is missing, unfinished or damaged, or the dataset is another one.
      DatasetError: the dataset is missing or damaged.
    """
    environment = _read_environment(path)
    if not (path / "model").is_dir():
        raise RunError(f"{path} is unfinished: it has no model/; finish it with `recsys train … --resume`")
    dataset = open_dataset(Path(environment.dataset) if dataset_path is None else dataset_path)
    if dataset.fingerprint != environment.dataset_sha256:
        raise RunError(
            f"{path} was trained on another dataset than {dataset.path}: expected manifest "
            f"{environment.dataset_sha256[:12]}, received {dataset.fingerprint[:12]}; name the right one, --dataset"
        )
    config = load_toml(ExperimentConfig, path / "config.toml")
    towers = build_towers(dataset.schema, config.model, dataset.item_features)
    try:
        weights = _checkpoint(towers).read(str(path / "model" / _WEIGHTS))
        weights.assert_existing_objects_matched().expect_partial()
    except (AssertionError, IndexError, ValueError, tf.errors.OpError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RunError(f"{path / 'model'} is damaged or of other towers ({reason}); train again") from error
    return Run(path, config, dataset, towers)


def _read_environment(path: Path) -> Environment:
    file = path / "environment.json"
    if not file.is_file():
        raise RunError(f"{path} is no run: expected {file}; make one with `recsys train`")
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        found = raw.get("format_version")
        if found != FORMAT_VERSION:
            raise RunError(f"{path} has run format {found}: expected {FORMAT_VERSION}; train again with this release")
        return Environment.model_validate(raw)
    except (ValidationError, ValueError, AttributeError) as error:
        raise RunError(f"{file} is damaged ({str(error).splitlines()[0]}); train again") from error


def _checkpoint(towers: Towers) -> tf.train.Checkpoint:
    return tf.train.Checkpoint(query=towers.query, candidate=towers.candidate)


def _git_commit() -> str | None:
    """The commit of this code's checkout; None where it is installed otherwise, or there is no git."""
    here = Path(__file__).parent
    try:
        answer = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
