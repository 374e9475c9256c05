"""The training loop, end to end on a tiny dataset."""

import csv
import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from data_prep.config import FiltersConfig
from data_prep.pipeline import prepare
from data_prep.schema_files import load_data_config
from experiments.evaluate import evaluate_run
from recsys.config import ExperimentConfig, RuntimeConfig
from recsys.dataset import Dataset, open_dataset
from recsys.errors import ConfigError, OutputExistsError, RequestError
from recsys.evaluation import TwoTowerScorer, evaluate
from recsys.interactions import load_interactions
from recsys.queries import make_queries
from recsys.run import Run, open_run
from recsys.towers import Towers
from recsys.training import _feed, train
from serving.export import export

MIRRORED = RuntimeConfig(strategy="mirrored", logical_cpus=2)


def experiment(**options: Any) -> ExperimentConfig:
    """One short epoch on 16 dimensions, as far as `options` do not say otherwise: `section__key=value`."""
    values: dict[str, dict[str, Any]] = {
        "model": {"embedding_dim": 16},
        "train": {"batch_size": 256, "epochs": 1},
        "optimizer": {},
        "loss": {},
    }
    for key, value in options.items():
        section, name = key.split("__")
        values[section][name] = value
    return ExperimentConfig.model_validate(values)


def history(run: Path) -> list[dict[str, float]]:
    with (run / "history.csv").open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def weights(towers: Towers) -> list[np.ndarray]:
    return [*towers.query.get_weights(), *towers.candidate.get_weights()]


def validation_ndcg(towers: Towers, dataset: Dataset) -> float:
    queries = make_queries(load_interactions(dataset), "validation", "event")
    return evaluate(TwoTowerScorer(towers, dataset), queries, ["ndcg@20"]).mean("ndcg@20")


def test_a_run_holds_what_the_design_says(tiny_run: Run) -> None:
    assert sorted(path.name for path in tiny_run.path.iterdir()) == [
        "checkpoints",
        "config.toml",
        "environment.json",
        "history.csv",
        "logs",
        "model",
    ]
    assert list((tiny_run.path / "logs").rglob("events.out.tfevents.*"))
    assert [row["epoch"] for row in history(tiny_run.path)] == [0, 1, 2]
    assert set(history(tiny_run.path)[0]) == {"epoch", "loss", "val_ndcg@20"}


def test_one_seed_gives_one_result(tiny_run: Run, tiny_dataset: Dataset, tmp_path: Path) -> None:
    towers = train(tiny_run.config, RuntimeConfig(), tiny_dataset, tmp_path / "run")
    assert (tmp_path / "run" / "history.csv").read_bytes() == (tiny_run.path / "history.csv").read_bytes()
    for one, two in zip(weights(tiny_run.towers), weights(towers), strict=True):
        np.testing.assert_array_equal(one, two)


def test_another_seed_gives_another_result(tiny_run: Run, tiny_dataset: Dataset, tmp_path: Path) -> None:
    train(experiment(train__seed=1), RuntimeConfig(), tiny_dataset, tmp_path / "run")
    (first,) = history(tmp_path / "run")
    assert first["loss"] != history(tiny_run.path)[0]["loss"]
    assert first["val_ndcg@20"] != history(tiny_run.path)[0]["val_ndcg@20"]


def test_training_learns(tiny_run: Run) -> None:
    first, *_, last = history(tiny_run.path)
    assert last["loss"] < 0.85 * first["loss"]
    assert last["val_ndcg@20"] > 1.3 * first["val_ndcg@20"]


@pytest.mark.parametrize("patience", [2, 50])
def test_the_best_epoch_is_kept(tiny_dataset: Dataset, tmp_path: Path, patience: int) -> None:
    """At this rate it overfits. Whether patience ends training or the number of epochs does, the best one is kept."""
    config = experiment(
        train__epochs=16, train__patience=patience, train__batch_size=64, optimizer__adagrad={"learning_rate": 1.0}
    )
    towers = train(config, RuntimeConfig(), tiny_dataset, tmp_path / "run")
    validation = [row["val_ndcg@20"] for row in history(tmp_path / "run")]
    best = int(np.argmax(validation))
    assert best < len(validation) - 1
    assert len(validation) == min(16, best + 1 + patience)
    for kept in (towers, open_run(tmp_path / "run").towers):
        assert validation_ndcg(kept, tiny_dataset) == pytest.approx(validation[best], rel=1e-9)


def test_the_metric_and_the_sample_of_queries_are_options(tiny_dataset: Dataset, tmp_path: Path) -> None:
    config = experiment(train__validation_metric="mrr@5", train__max_validation_queries=1)
    train(config, RuntimeConfig(), tiny_dataset, tmp_path / "run")
    (row,) = history(tmp_path / "run")
    assert set(row) == {"epoch", "loss", "val_mrr@5"}
    assert min(abs(row["val_mrr@5"] - value) for value in (0, 1, 1 / 2, 1 / 3, 1 / 4, 1 / 5)) < 1e-9


def test_an_existing_run_is_not_touched(tiny_dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputExistsError) as error:
        train(experiment(), RuntimeConfig(), tiny_dataset, tmp_path)
    assert str(error.value) == f"{tmp_path} exists: expected a new directory; choose another name or remove it first"
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_a_runtime_that_cannot_be_had_leaves_no_run(tiny_dataset: Dataset, tmp_path: Path) -> None:
    runtime = RuntimeConfig(strategy="mirrored", logical_cpus=4)
    with pytest.raises(ConfigError) as error:
        train(experiment(), runtime, tiny_dataset, tmp_path / "run")
    assert str(error.value) == (
        "logical_cpus = 4: the CPU was already set up as 2 devices in this process; start a new one"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_two_replicas_train_like_one(tiny_dataset: Dataset, tmp_path: Path) -> None:
    """Without dropout, which each replica draws for itself; twice in one process, with tables of other widths."""
    still = {"id_dropout": 0}
    for dim in (4, 6):
        model = {"model__embedding_dim": dim, "model__history": still, "model__query": still, "model__candidate": still}
        rows = []
        for name, runtime in [("one", RuntimeConfig()), ("two", MIRRORED)]:
            train(experiment(**model), runtime, tiny_dataset, tmp_path / f"{name}-{dim}")
            rows += history(tmp_path / f"{name}-{dim}")
        one, two = rows
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert two["val_ndcg@20"] == pytest.approx(one["val_ndcg@20"], rel=1e-2)


@pytest.mark.slow
def test_two_replicas_train_on_sequences_like_one(tiny_dataset: Dataset, tmp_path: Path) -> None:
    still = {"id_dropout": 0, "length": 7, "encoder": {"name": "self_attention", "dropout": 0}}
    model = {"model__history": still, "model__query": {"id_dropout": 0}, "model__candidate": {"id_dropout": 0}}
    rest = {"loss": {"name": "full_softmax"}, "train": {"examples": "sequences", "batch_size": 64, "epochs": 1}}
    config = experiment(**model).model_dump(exclude_none=True) | rest
    rows = []
    for name, runtime in [("one", RuntimeConfig()), ("two", MIRRORED)]:
        train(ExperimentConfig.model_validate(config), runtime, tiny_dataset, tmp_path / name)
        rows += history(tmp_path / name)
    one, two = rows
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert two["val_ndcg@20"] == pytest.approx(one["val_ndcg@20"], rel=1e-2)


SETS = {"loss": {"name": "unseen_softmax"}, "train": {"examples": "sets", "batch_size": 64, "epochs": 1}}


@pytest.mark.slow
def test_two_replicas_train_on_sets_like_one(tiny_dataset: Dataset, tmp_path: Path) -> None:
    still = {"id_dropout": 0}
    model = {"model__history": still, "model__query": still, "model__candidate": still}
    config = ExperimentConfig.model_validate(experiment(**model).model_dump(exclude_none=True) | SETS)
    rows = []
    for name, runtime in [("one", RuntimeConfig()), ("two", MIRRORED)]:
        train(config, runtime, tiny_dataset, tmp_path / name)
        rows += history(tmp_path / name)
    one, two = rows
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert two["val_ndcg@20"] == pytest.approx(one["val_ndcg@20"], rel=1e-2)


@pytest.mark.parametrize(
    ("examples", "loss"), [("sequences", {}), ("sets", {"name": "unseen_softmax"})], ids=["sequences", "sets"]
)
def test_what_needs_histories_says_so(
    tiny_dataset: Dataset, tmp_path: Path, examples: str, loss: dict[str, str]
) -> None:
    schema = tiny_dataset.schema.model_copy(update={"history_length": 0})
    dataset = Dataset(tiny_dataset.path, tiny_dataset.manifest.model_copy(update={"schema_": schema}))
    config = ExperimentConfig.model_validate({"train": {"examples": examples}, "loss": loss})
    with pytest.raises(ConfigError) as error:
        train(config, RuntimeConfig(), dataset, tmp_path / "run")
    assert str(error.value) == (
        f"train.examples = '{examples}' needs histories: expected a dataset with history_length above 0; "
        "prepare it again, or choose 'interactions' and a loss of theirs"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_item_that_a_user_took_twice_is_not_shown_beside_its_hidden_self(tmp_path: Path) -> None:
    source = "synthetic:users=20,items=30,interactions=1000"
    with_repeats = load_data_config(None, source).model_copy(update={"filters": FiltersConfig()})
    prepare(source, with_repeats, tmp_path / "dataset")
    dataset = open_dataset(tmp_path / "dataset")
    interactions = load_interactions(dataset)
    rows = pd.DataFrame({"user": interactions.user_row, "item": interactions.item_row})
    number = rows[interactions.split == 0].duplicated().sum()
    assert number > 10
    with pytest.raises(ConfigError) as error:
        train(ExperimentConfig.model_validate(SETS), RuntimeConfig(), dataset, tmp_path / "repeats")
    assert str(error.value) == (
        "train.examples = 'sets' would show a repeated item beside its hidden self: expected each item of a user once "
        f"in train, received {number} repeats; prepare the dataset with filters.duplicates = 'first'"
    )
    assert not (tmp_path / "repeats").exists()


@pytest.mark.slow
def test_a_fresh_process_trains_on_two_logical_cpus(tiny_dataset: Dataset, tmp_path: Path) -> None:
    """As `recsys train` does: nothing has used TensorFlow before. Progress goes to stderr in plain lines."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from recsys.config import ExperimentConfig, RuntimeConfig\n"
        "from recsys.dataset import open_dataset\n"
        "from recsys.training import train\n"
        "config = ExperimentConfig.model_validate({'model': {'embedding_dim': 8}, 'train': {'epochs': 1}})\n"
        "runtime = RuntimeConfig(strategy='mirrored', logical_cpus=2)\n"
        "train(config, runtime, open_dataset(Path(sys.argv[1])), Path(sys.argv[2]))\n"
    )
    command = [sys.executable, "-c", program, str(tiny_dataset.path), str(tmp_path / "run")]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr.splitlines()[-1]
    assert outcome.stdout == ""
    assert re.search(r"^epoch 1/1  loss \d+\.\d{4}  val_ndcg@20 0\.\d{4}  \d+\.\d s$", outcome.stderr, re.MULTILINE)
    assert len(history(tmp_path / "run")) == 1
    assert open_run(tmp_path / "run").config.model.embedding_dim == 8


@pytest.mark.slow
def test_memory_is_linear_in_the_batch(tmp_path: Path) -> None:
    """Two steps of 65,536 interactions, in a process of its own: their matrix of logits alone would take 16 GiB."""
    source = "synthetic:users=10000,items=20000,interactions=120000"
    prepare(source, load_data_config(None, source), tmp_path / "dataset")
    assert 65_536 < open_dataset(tmp_path / "dataset").manifest.num_rows("train") <= 2 * 65_536
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from recsys.config import ExperimentConfig, RuntimeConfig\n"
        "from recsys.dataset import open_dataset\n"
        "from recsys.training import train\n"
        "options = {'batch_size': 65_536, 'epochs': 1, 'max_validation_queries': 100}\n"
        "config = ExperimentConfig.model_validate({'train': options})\n"
        "train(config, RuntimeConfig(), open_dataset(Path(sys.argv[1])), Path(sys.argv[2]))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "dataset"), str(tmp_path / "run")]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr.splitlines()[-1]
    peak_gib = int(outcome.stdout) / 2**20
    print(f"batch 65,536: peak memory {peak_gib:.2f} GiB")
    assert peak_gib < 4


def test_without_validation_the_last_epoch_is_kept(tmp_path: Path) -> None:
    """Patience, of one epoch here, waits for nothing: as many epochs are learned as are asked for."""
    source = "synthetic:users=150,items=300,interactions=6000"
    prepare(source, load_data_config(None, source).without_validation(), tmp_path / "data")
    dataset = open_dataset(tmp_path / "data")
    assert dataset.manifest.num_rows("validation") == 0
    towers = train(experiment(train__epochs=3, train__patience=1), RuntimeConfig(), dataset, tmp_path / "run")
    assert [set(row) for row in history(tmp_path / "run")] == 3 * [{"epoch", "loss"}]
    last = tmp_path / "run" / "checkpoints" / "epoch-0003"
    assert [path.name for path in last.parent.iterdir()] == [last.name]
    saved = tf.train.load_checkpoint(str(last / "state"))
    in_checkpoint = {
        float(np.sum(saved.get_tensor(name)))
        for name in saved.get_variable_to_shape_map()
        if "query" in name or "candidate" in name
    }
    assert {float(np.sum(value)) for value in weights(towers)} <= in_checkpoint

    refusal = "without validation: expected --split test, or a run that was trained on a dataset with validation"
    with pytest.raises(RequestError, match=refusal):
        evaluate_run(open_run(tmp_path / "run"), "validation", (10,))


@pytest.mark.slow
def test_a_run_without_validation_is_exported(tmp_path: Path) -> None:
    """Its index is tuned on queries of the test split."""
    source = "synthetic:users=150,items=300,interactions=6000"
    prepare(source, load_data_config(None, source).without_validation(), tmp_path / "data")
    train(experiment(), RuntimeConfig(), open_dataset(tmp_path / "data"), tmp_path / "run")
    published = export(open_run(tmp_path / "run"), tmp_path / "models", "last")
    assert published.record.index_recall == pytest.approx(1)


def test_so_much_of_a_set_is_hidden_as_the_configuration_says(tiny_run: Run) -> None:
    for hidden in (0.1, 0.9):
        config = experiment(train__examples="sets", train__hidden=hidden, loss__name="unseen_softmax").train
        feed = _feed(tf.distribute.get_strategy(), tiny_run.dataset, config, tiny_run.towers, {"weight", "history"})
        shown = of_all = 0
        for batch in itertools.islice(feed.batches, feed.steps_per_epoch):
            shown += np.count_nonzero(batch["history"])
            of_all += np.count_nonzero(batch["history"]) + np.count_nonzero(batch["weight"])
        assert shown / of_all == pytest.approx(1 - hidden, abs=0.05)
