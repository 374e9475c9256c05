"""What a run shows in TensorBoard, all of it below `RUN/logs`.

Beside the scalars of `train/` and `validation/`: the run's hyperparameters and best validation metric, a profile of
some batches if asked for, and the items' embeddings for the projector.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorboard.plugins import projector
from tensorboard.plugins.hparams import api as hparams

from recsys.config import ExperimentConfig, RuntimeConfig
from recsys.dataset import Dataset
from recsys.errors import ConfigError
from recsys.toml_config import flat
from recsys.towers import Towers

# The projector draws and searches in the browser, which takes about so many points.
MAX_PROJECTED_ITEMS = 10_000
_EMBEDDINGS, _METADATA = "items.tsv", "items-metadata.tsv"


def scalars_and_profile(
    logs: Path, runtime: RuntimeConfig, steps_per_epoch: int, first_epoch: int
) -> tf.keras.callbacks.TensorBoard:
    """Returns the callback that writes each epoch's scalars, and the profile that the runtime asks for.

    Args:
      logs: the folder to write to.
      runtime: names the batches of the first epoch to profile.
      steps_per_epoch: batches of an epoch.
      first_epoch: where training begins or goes on, from 0; the callback counts batches from there.

    Raises:
      ConfigError: an epoch has no such batches.
    """
    profiled = runtime.profile_batches
    if profiled is not None and profiled[1] > steps_per_epoch:
        raise ConfigError(
            f"profile_batches = {list(profiled)}: expected batches of the first epoch, which has {steps_per_epoch}; "
            "profile earlier ones"
        )
    nothing = profiled is None or first_epoch > 0
    return tf.keras.callbacks.TensorBoard(str(logs), write_graph=False, profile_batch=0 if nothing else profiled)


def write_hyperparameters(logs: Path, config: ExperimentConfig, dataset: Dataset) -> None:
    """Writes what tells this run from others: the configuration, as dotted keys, and the dataset."""
    values = {key: _shown(value) for key, value in flat(config.model_dump(mode="json")).items() if value is not None}
    with tf.summary.create_file_writer(str(logs)).as_default():
        hparams.hparams({**values, "dataset": f"{dataset.path.name} {dataset.fingerprint[:12]}"})


def write_outcome(logs: Path, metric: str, value: float, epoch: int) -> None:
    """Writes the best value of the validation metric, and its epoch, beside the hyperparameters."""
    with tf.summary.create_file_writer(str(logs)).as_default():
        tf.summary.scalar(f"best_val_{metric}", value, step=epoch)


def write_projector(logs: Path, towers: Towers, dataset: Dataset) -> None:
    """Writes the candidate embeddings of items, with their ids, train counts and what is shown of them.

    Of a larger catalogue only the 10,000 items with most train interactions; the name in the projector says so.
    """
    rows = np.argsort(-dataset.train_counts, kind="stable")[:MAX_PROJECTED_ITEMS]
    embeddings = towers.embed_candidate({name: values[rows] for name, values in dataset.item_features.items()})
    np.savetxt(logs / _EMBEDDINGS, embeddings.numpy(), fmt="%.6g", delimiter="\t")
    columns = {name.removeprefix("show_"): name for name in dataset.items.column_names if name.startswith("show_")}
    table = dataset.items.select(["item", "train_count", *columns.values()]).take(rows).to_pydict()
    lines = [("item", "train_count", *columns), *zip(*table.values(), strict=True)]
    text = "".join("\t".join(" ".join(str(cell).split()) for cell in line) + "\n" for line in lines)
    (logs / _METADATA).write_text(text, encoding="utf-8")

    config = projector.ProjectorConfig()
    total = dataset.items.num_rows
    name = "items" if len(rows) == total else f"items: the {len(rows):,} most taken of {total:,}"
    config.embeddings.add(tensor_name=name, tensor_path=_EMBEDDINGS, metadata_path=_METADATA)
    projector.visualize_embeddings(str(logs), config)


def _shown(value: Any) -> bool | float | str:
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)
