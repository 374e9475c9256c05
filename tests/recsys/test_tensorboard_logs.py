"""What a run shows in TensorBoard, read by TensorBoard's own readers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace
from werkzeug.test import Client

from recsys import tensorboard_logs
from recsys.checkpoints import Checkpoints
from recsys.config import ExperimentConfig, RuntimeConfig
from recsys.dataset import Dataset
from recsys.errors import ConfigError
from recsys.run import Run
from recsys.tensorboard_logs import write_projector
from recsys.training import train


def events_of(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def scalars(folder: Path, name: str) -> dict[int, float]:
    return {event.step: float(tf.make_ndarray(event.tensor_proto)) for event in events_of(folder).Tensors(name)}


def history(run: Path) -> list[dict[str, str]]:
    header, *rows = [line.split(",") for line in (run / "history.csv").read_text("utf-8").splitlines()]
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_scalars_are_those_of_the_history(tiny_run: Run) -> None:
    rows = history(tiny_run.path)
    for folder, tag, column in [("train", "epoch_loss", "loss"), ("validation", "epoch_ndcg@20", "val_ndcg@20")]:
        found = scalars(tiny_run.path / "logs" / folder, tag)
        assert found == pytest.approx({epoch: float(row[column]) for epoch, row in enumerate(rows)}, rel=1e-6)


def test_hyperparameters_are_the_configuration_and_the_dataset(tiny_run: Run) -> None:
    content = events_of(tiny_run.path / "logs").PluginTagToContent("hparams")["_hparams_/session_start_info"]
    found = HParamsPluginData.FromString(content).session_start_info.hparams
    assert found["train.batch_size"].number_value == 256
    assert found["model.embedding_dim"].number_value == 16
    assert found["model.query.hidden_units"].string_value == "[]"
    assert found["model.normalize"].bool_value is True
    assert found["model.history.encoder.name"].string_value == "mean"
    assert "model.history.length" not in found  # it has none
    name, fingerprint = found["dataset"].string_value.split(" ")
    assert (name, len(fingerprint)) == ("tiny-dataset", 12)
    assert json.loads((tiny_run.path / "environment.json").read_text("utf-8"))["dataset_sha256"].startswith(fingerprint)


def test_the_outcome_stands_beside_the_hyperparameters(tiny_run: Run) -> None:
    values = [float(row["val_ndcg@20"]) for row in history(tiny_run.path)]
    found = scalars(tiny_run.path / "logs", "best_val_ndcg@20")
    assert found == pytest.approx({int(np.argmax(values)): max(values)}, rel=1e-6)


def projected(logs: Path) -> tuple[dict[str, Any], npt.NDArray[np.float32], list[list[str]]]:
    """What the projector gets to see: its description of the embeddings, them, and the lines of their metadata."""
    runs = EventMultiplexer().AddRunsFromDirectory(str(logs)).Reload()
    plugin = ProjectorPlugin(TBContext(logdir=str(logs), data_provider=MultiplexerDataProvider(runs, str(logs))))
    apps = plugin.get_plugin_apps()

    def served(path: str, **query: str) -> bytes:
        answer = Client(apps[path]).get(path, query_string=query)
        assert answer.status_code == 200, answer.text
        return bytes(answer.data)

    (embedding,) = json.loads(served("/info", run="."))["embeddings"]
    name = embedding["tensorName"]
    tensor = np.frombuffer(served("/tensor", run=".", name=name), np.float32).reshape(embedding["tensorShape"])
    metadata = served("/metadata", run=".", name=name).decode("utf-8")
    return embedding, tensor, [line.split("\t") for line in metadata.splitlines()]


def test_the_projector_shows_items_with_their_titles(tiny_run: Run) -> None:
    embedding, tensor, (header, *lines) = projected(tiny_run.path / "logs")
    assert embedding["tensorName"] == "items"
    assert header == ["item", "train_count", "title"]
    items = tiny_run.dataset.items
    row_of = {item: row for row, item in enumerate(items["item"].to_pylist())}
    assert sorted(line[0] for line in lines) == sorted(row_of)
    counts = [int(line[1]) for line in lines]
    assert counts == sorted(counts, reverse=True)
    rows = [row_of[line[0]] for line in lines]
    assert counts == [items["train_count"][row].as_py() for row in rows]
    assert [line[2] for line in lines] == [items["show_title"][row].as_py() for row in rows]
    embedded = tiny_run.towers.embed_candidate(tiny_run.dataset.item_features).numpy()
    np.testing.assert_allclose(tensor, embedded[rows], atol=1e-5)


def test_of_a_large_catalogue_the_projector_shows_the_most_taken(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = projected(tiny_run.path / "logs")
    monkeypatch.setattr(tensorboard_logs, "MAX_PROJECTED_ITEMS", 7)
    write_projector(tmp_path, tiny_run.towers, tiny_run.dataset)
    embedding, tensor, lines = projected(tmp_path)
    assert embedding["tensorName"] == f"items: the 7 most taken of {len(everything[1])}"
    assert lines == everything[2][:8]
    np.testing.assert_allclose(tensor, everything[1][:7], atol=1e-5)


def test_cells_of_metadata_are_one_line(tiny_run: Run, tmp_path: Path) -> None:
    dataset = Dataset(tiny_run.dataset.path, tiny_run.dataset.manifest)
    column = dataset.items.column_names.index("show_title")
    odd = [["a\ttab", "a\nline", ""][row % 3] for row in range(dataset.items.num_rows)]
    dataset.__dict__["items"] = dataset.items.set_column(column, "show_title", [odd])
    write_projector(tmp_path, tiny_run.towers, dataset)
    _, _, (_, *lines) = projected(tmp_path)
    assert {line[2] for line in lines} == {"a tab", "a line", ""}


def test_profiling_is_an_option(tiny_run: Run, tiny_dataset: Dataset, tmp_path: Path) -> None:
    assert not list((tiny_run.path / "logs").rglob("*.xplane.pb"))
    config = ExperimentConfig.model_validate({"model": {"embedding_dim": 4}, "train": {"epochs": 1, "batch_size": 512}})
    train(config, RuntimeConfig(profile_batches=(2, 3)), tiny_dataset, tmp_path / "run")
    (profile,) = (tmp_path / "run" / "logs" / "plugins" / "profile").rglob("*.xplane.pb")
    planes = {plane.name: plane for plane in XSpace.FromString(profile.read_bytes()).planes}
    host = planes["/host:CPU"]
    names = [host.event_metadata[event.metadata_id].name for line in host.lines for event in line.events]
    assert names.count("train_function") == 2


def test_only_the_first_epoch_is_profiled(
    tiny_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that goes on after an epoch counts batches anew."""
    config = ExperimentConfig.model_validate({"model": {"embedding_dim": 4}, "train": {"epochs": 2, "batch_size": 512}})
    runtime, out = RuntimeConfig(profile_batches=(2, 3)), tmp_path / "run"
    save = Checkpoints.on_epoch_end

    def save_and_stop(*arguments: Any) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "on_epoch_end", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train(config, runtime, tiny_dataset, out)
    monkeypatch.undo()
    (profile,) = (out / "logs").rglob("*.xplane.pb")
    profile.unlink()
    train(config, runtime, tiny_dataset, out, resume=True)
    assert len(history(out)) == 2
    assert not list((out / "logs").rglob("*.xplane.pb"))


def test_batches_that_an_epoch_lacks_are_not_profiled(tiny_dataset: Dataset, tmp_path: Path) -> None:
    config = ExperimentConfig.model_validate({"model": {"embedding_dim": 4}, "train": {"batch_size": 1024}})
    with pytest.raises(ConfigError) as error:
        train(config, RuntimeConfig(profile_batches=(2, 9)), tiny_dataset, tmp_path / "run")
    assert str(error.value) == (
        "profile_batches = [2, 9]: expected batches of the first epoch, which has 2; profile earlier ones"
    )
    assert list(tmp_path.iterdir()) == []
