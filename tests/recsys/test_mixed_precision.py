"""bfloat16 where matrices are multiplied, float32 in everything else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from recsys.config import ExperimentConfig, ModelConfig, RuntimeConfig
from recsys.dataset import Dataset
from recsys.errors import ConfigError
from recsys.run import open_run
from recsys.toml_config import load_toml
from recsys.towers import Towers, build_towers
from recsys.training import train

BFLOAT16 = RuntimeConfig(mixed_precision="bfloat16")


def towers_of(dataset: Dataset, runtime: RuntimeConfig, **model: Any) -> Towers:
    tf.keras.utils.set_random_seed(0)
    config = ModelConfig.model_validate({"embedding_dim": 8, "history": {"length": 5}} | model)
    return build_towers(dataset.schema, config, dataset.item_features, runtime)


def some_users(dataset: Dataset) -> dict[str, Any]:
    item_ids = np.random.default_rng(0).integers(1, dataset.schema.item_id.num_ids, (6, 5)).astype(np.int32)
    item_ids[np.arange(5) >= np.arange(6)[:, None]] = 0
    return {"history": item_ids, **{name: values[:6] for name, values in dataset.user_features.items()}}


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("encoder", ["mean", "recency", "gru", "self_attention"])
def test_towers_compute_about_the_same_and_give_float32(tiny_dataset: Dataset, encoder: str, normalize: bool) -> None:
    model = {
        "history": {"length": 5, "encoder": {"name": encoder}},
        "query": {"hidden_units": [16]} if normalize else {},
        "normalize": normalize,
    }
    users = some_users(tiny_dataset)
    exact, mixed = (towers_of(tiny_dataset, runtime, **model) for runtime in (RuntimeConfig(), BFLOAT16))
    for one, other in [
        (exact.embed_query(users), mixed.embed_query(users)),
        (exact.embed_positions(users), mixed.embed_positions(users)),
    ]:
        assert one.dtype == other.dtype == tf.float32
        # As a whole: how single numbers are rounded depends on the processor.
        error = float(tf.norm(one - other) / tf.norm(one))
        print(f"{encoder}: relative error {error:.4f}")
        assert error < 0.015
        differs = bool(tf.reduce_any(one != other))
        assert differs == (normalize or encoder in ("gru", "self_attention"))
    assert {weight.dtype for weight in mixed.query.trainable_weights} == {tf.float32}


def test_embeddings_and_last_layers_stay_float32(tiny_dataset: Dataset) -> None:
    model = {"query": {"hidden_units": [16]}, "candidate": {"hidden_units": [16]}}
    towers = towers_of(tiny_dataset, BFLOAT16, **model)
    lower = {
        layer.name
        for tower in (towers.query, towers.candidate)
        for layer in tower.layers
        if layer.compute_dtype == "bfloat16"
    }
    assert lower == {"query_hidden_0", "query_dropout_0", "candidate_hidden_0", "candidate_dropout_0"}


@pytest.mark.slow
def test_training_in_bfloat16_ends_close_and_its_model_computes_in_float32(
    tiny_dataset: Dataset, tmp_path: Path
) -> None:
    still = {"id_dropout": 0}
    model = {
        "embedding_dim": 8,
        "history": {"length": 5, "encoder": {"name": "self_attention", "dropout": 0}, **still},
        "query": {"hidden_units": [16], **still},
        "candidate": still,
    }
    config = ExperimentConfig.model_validate(
        {"model": model, "optimizer": {"adam": {}}, "train": {"batch_size": 128, "epochs": 2}}
    )
    losses = []
    for runtime in (RuntimeConfig(), BFLOAT16):
        out = tmp_path / runtime.mixed_precision
        train(config, runtime, tiny_dataset, out)
        losses.append([float(line.split(",")[1]) for line in (out / "history.csv").read_text("utf-8").splitlines()[1:]])
    exact, mixed = losses
    assert mixed == pytest.approx(exact, rel=2e-3)
    assert mixed != exact
    towers = open_run(tmp_path / "bfloat16").towers
    assert {weight.dtype for weight in towers.query.weights} <= {tf.float32, tf.int32}
    users = some_users(tiny_dataset)
    assert towers.embed_query(users).dtype == tf.float32
    assert {layer.compute_dtype for layer in towers.query.submodules if isinstance(layer, tf.keras.layers.Dense)} == {
        "float32"
    }


def test_float16_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "runtime.toml"
    file.write_text("mixed_precision = 'float16'", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_toml(RuntimeConfig, file)
    assert str(error.value) == (
        f"{file}: mixed_precision: float16 needs scaled losses, which are not supported: expected bfloat16, which does "
        "not, or none"
    )
