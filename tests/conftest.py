"""Fixtures: a tiny synthetic dataset, a run trained on it, and its bundle; real data where it is at hand."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

# Test workers share the processors; TensorFlow's threads would wait for each other. Inherited by what tests start.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

import pandas as pd
import pytest
import tensorflow as tf

import recsys  # noqa: F401  chooses Keras 2 before TensorFlow is imported

# Two replicas on one CPU, for the tests of distributed training; must precede any use of TensorFlow.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

from data_prep.pipeline import prepare  # noqa: E402
from data_prep.schema_files import load_data_config  # noqa: E402
from data_prep.sources import open_source, read_source  # noqa: E402
from recsys.config import ExperimentConfig, RuntimeConfig  # noqa: E402
from recsys.dataset import Dataset, open_dataset  # noqa: E402
from recsys.run import Run, open_run  # noqa: E402
from recsys.training import train  # noqa: E402
from serving.export import export  # noqa: E402

MadeOnce = Callable[[str, Callable[[Path], object]], Path]

TINY_SOURCE = "synthetic:users=150,items=300,interactions=6000"


def tiny_experiment() -> ExperimentConfig:
    """A model that trains in seconds; its catalogue is so small that the index is exhaustive."""
    return ExperimentConfig.model_validate(
        {
            "model": {"embedding_dim": 16},
            "train": {"batch_size": 256, "epochs": 3},
        }
    )


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> MadeOnce:
    """Makes a folder that all test workers read: the first that asks for it does, and the others wait."""
    own = tmp_path_factory.getbasetemp()
    base = own if worker_id == "master" else own.parent

    def path_of(name: str, make: Callable[[Path], object]) -> Path:
        path, whole = base / name, base / f"{name}.whole"
        with (base / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not whole.exists():
                shutil.rmtree(path, ignore_errors=True)
                make(path)
                whole.touch()
        return path

    return path_of


@pytest.fixture(scope="session")
def tiny_dataset(made_once: MadeOnce) -> Dataset:
    """To be read only, as all that is made of it here."""
    config = load_data_config(None, TINY_SOURCE)
    return open_dataset(made_once("tiny-dataset", lambda path: prepare(TINY_SOURCE, config, path)))


@pytest.fixture(scope="session")
def tiny_rows() -> pd.DataFrame:
    """What the tiny dataset is made from: the source's rows, of a user's items the first."""
    batches = read_source(open_source(TINY_SOURCE), ["user_id", "item_id", "timestamp"])
    rows = pd.concat([batch.table.to_pandas() for batch in batches], ignore_index=True)
    return rows.drop_duplicates(["user_id", "item_id"], ignore_index=True)


@pytest.fixture(scope="session")
def tiny_run(tiny_dataset: Dataset, made_once: MadeOnce) -> Run:
    return open_run(made_once("tiny-run", lambda path: train(tiny_experiment(), RuntimeConfig(), tiny_dataset, path)))


@pytest.fixture(scope="session")
def tiny_models(tiny_run: Run, made_once: MadeOnce) -> Path:
    """A folder `<models>` with version 1 of the model `tiny`."""
    return made_once("tiny-models", lambda path: export(tiny_run, path, "tiny"))


@pytest.fixture(scope="session")
def twice_published(tiny_run: Run, tiny_models: Path, made_once: MadeOnce) -> Path:
    """A copy of `tiny_models` to which version 2 was added, with the query tower in files of its own."""

    def make(models: Path) -> None:
        shutil.copytree(tiny_models, models)
        export(tiny_run, models, "tiny", tower_formats=["tflite", "onnx"])

    return made_once("twice-published", make)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data, RECSYS_TEST_DATA."""
    folder = os.environ.get("RECSYS_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("RECSYS_TEST_DATA names no folder of real data")
    return Path(folder)
