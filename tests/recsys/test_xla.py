"""The training step as XLA compiles it: whatever is configured is lowered, to static shapes, and learns alike."""

from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from recsys.config import ExperimentConfig, RuntimeConfig
from recsys.dataset import Dataset
from recsys.errors import ConfigError
from recsys.input_pipeline import training_batches
from recsys.interactions import load_interactions
from recsys.optimizers import make_optimizer
from recsys.retrieval import RetrievalModel
from recsys.sequence_pipeline import training_sequences
from recsys.toml_config import load_toml, overridden
from recsys.towers import build_towers
from recsys.training import train

XLA = RuntimeConfig(xla=True)
CONFIGS = Path(str(resources.files("experiments"))) / "configs"
SMALL = ("model.embedding_dim=4", "model.history.length=3", "train.batch_size=8")
# Sets are refused (`test_what_cannot_be_compiled_is_refused`).
REFUSED = {"gowalla.toml"}


def lowered_step(config: ExperimentConfig, dataset: Dataset, static_optimizer: bool = True) -> str:
    """The step in XLA's own language, where a size that may change is written `<=8`. XLA refuses what it cannot say."""
    tf.config.experimental.enable_op_determinism()
    tf.keras.utils.set_random_seed(0)
    towers = build_towers(dataset.schema, config.model, dataset.item_features, XLA)
    interactions = load_interactions(dataset)
    model = RetrievalModel(
        towers, config.loss, dataset.train_counts, dataset.item_features, config.train.examples, interactions
    )
    optimizer = make_optimizer(config.optimizer, 10, static_optimizer)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer)
    if config.train.examples == "sequences":
        batches = training_sequences(dataset, 8, towers.history_length, 0, features=model.features)
    else:
        batches = training_batches(dataset, 8, 0, None, model.features, towers.history_length)
    step = tf.function(model.train_step, jit_compile=True)
    text: str = step.experimental_get_compiler_ir(next(iter(batches)))(stage="hlo")
    assert "ENTRY" in text
    return text


def small(**values: Any) -> ExperimentConfig:
    return overridden(ExperimentConfig.model_validate(values), SMALL)


@pytest.mark.parametrize(
    "config",
    [
        *(
            pytest.param(lambda file=file: load_toml(ExperimentConfig, file, SMALL), id=file.name)
            for file in sorted(CONFIGS.glob("*.toml"))
            if file.name not in REFUSED
        ),
        pytest.param(
            lambda: small(model={"item_bias": True, "history": {"encoder": {"name": "gru"}}}), id="gru, item bias"
        ),
        pytest.param(
            lambda: small(
                model={
                    "history": {"share_item_table": False, "content_features": True},
                    "candidate": {"pooling": "attention"},
                    "query": {"hidden_units": [4]},
                },
                loss={
                    "log_q": "streaming",
                    "num_hardest": 3,
                    "learn_temperature": True,
                    "negatives": {"popular": 2, "hard": 2},
                },
                optimizer={"adam": {"weight_decay": 0.1}},
            ),
            id="attention, negatives, streaming",
        ),
        pytest.param(
            lambda: small(model={"candidate": {"pooling": "sum"}}, optimizer={"adagrad": {"weight_decay": 0.1}}),
            id="sum, Adagrad",
        ),
    ],
)
def test_the_step_is_compiled_with_static_shapes(tiny_dataset: Dataset, config: Any) -> None:
    assert "<=" not in lowered_step(config(), tiny_dataset)


def test_shapes_that_are_not_static_would_be_seen(tiny_dataset: Dataset) -> None:
    assert "<=8" in lowered_step(small(), tiny_dataset, static_optimizer=False)


@pytest.mark.slow
def test_compiled_training_learns_the_same(tiny_dataset: Dataset, tmp_path: Path) -> None:
    """Without dropout, which XLA draws otherwise."""
    still = {"id_dropout": 0}
    config = ExperimentConfig.model_validate(
        {
            "model": {"embedding_dim": 8, "history": {"length": 4, **still}, "query": still, "candidate": still},
            "optimizer": {"adam": {"weight_decay": 0.01}},
            "train": {"batch_size": 128, "epochs": 2},
        }
    )
    plain, compiled = (history_of(config, runtime, tiny_dataset, tmp_path) for runtime in (RuntimeConfig(), XLA))
    assert compiled == pytest.approx(plain, rel=1e-4)


def history_of(config: ExperimentConfig, runtime: RuntimeConfig, dataset: Dataset, folder: Path) -> list[float]:
    run = folder / str(runtime.xla)
    train(config, runtime, dataset, run)
    _, *lines = (run / "history.csv").read_text("utf-8").splitlines()
    return [float(cell) for line in lines for cell in line.split(",")]


def test_what_cannot_be_compiled_is_refused(tiny_dataset: Dataset, tmp_path: Path) -> None:
    for values, option, expected in (
        ({"loss": {"mask": "known_positives"}}, "loss.mask = 'known_positives'", "'accidental_hits' or 'nothing'"),
        (
            {"loss": {"name": "unseen_softmax"}, "train": {"examples": "sets"}},
            "loss.name = 'unseen_softmax'",
            "another loss, and examples other than sets",
        ),
    ):
        with pytest.raises(ConfigError) as error:
            train(ExperimentConfig.model_validate(values), XLA, tiny_dataset, tmp_path / "run")
        assert str(error.value) == (
            f"{option} finds another number of items in each batch, and XLA compiles for one: expected {expected}, "
            "or a runtime with xla = false"
        )
    file = tmp_path / "runtime.toml"
    file.write_text("xla = true\nstrategy = 'mirrored'", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_toml(RuntimeConfig, file)
    assert str(error.value) == (
        f"{file}: the file: xla = true needs strategy = 'one_device': XLA compiles a step for a single device"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["runtime.toml"]
