"""Fixtures: a tiny synthetic dataset, a run trained on it, and its bundle; real data where it is at hand."""

import os
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
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("datasets") / "tiny"
    prepare(TINY_SOURCE, load_data_config(None, TINY_SOURCE), path)
    return open_dataset(path)


@pytest.fixture(scope="session")
def tiny_rows() -> pd.DataFrame:
    """What the tiny dataset is made from: the source's rows, of a user's items the first."""
    batches = read_source(open_source(TINY_SOURCE), ["user_id", "item_id", "timestamp"])
    rows = pd.concat([batch.table.to_pandas() for batch in batches], ignore_index=True)
    return rows.drop_duplicates(["user_id", "item_id"], ignore_index=True)


@pytest.fixture(scope="session")
def tiny_run(tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("runs") / "tiny"
    train(tiny_experiment(), RuntimeConfig(), tiny_dataset, path)
    return open_run(path)


@pytest.fixture(scope="session")
def tiny_models(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `<models>` with version 1 of the model `tiny`."""
    models = tmp_path_factory.mktemp("models")
    export(tiny_run, models, "tiny")
    return models


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data, RECSYS_TEST_DATA."""
    folder = os.environ.get("RECSYS_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("RECSYS_TEST_DATA names no folder of real data")
    return Path(folder)
