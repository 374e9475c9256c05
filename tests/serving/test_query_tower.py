"""The query tower as TFLite and as ONNX, run by each one's own runtime, against the tower itself."""

import re
import sys
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import tensorflow as tf

from recsys.config import ModelConfig
from recsys.dataset import Features
from recsys.errors import BundleError, ConfigError
from recsys.schema import Feature, Schema
from recsys.towers import build_towers
from serving.query_tower import files, onnx, tflite
from serving.query_tower.files import FormatName, convert_tower
from serving.query_tower.portable import portable_query_tower, round_tables

LENGTH, QUERIES = 6, 40
Embeddings = npt.NDArray[np.float32]


def features_of(entity: str) -> tuple[Feature, ...]:
    return (
        Feature(name=f"{entity}_id", type="id", num_ids=203, num_oov=2),
        Feature(name=f"{entity}_kind", type="categorical", num_ids=9, num_oov=1),
        Feature(name=f"{entity}_tags", type="multi_categorical", num_ids=30, num_oov=1, max_length=3),
        Feature(name=f"{entity}_price", type="numeric", num_ids=0, num_oov=0, max_length=1),
    )


SCHEMA = Schema(user_features=features_of("user"), item_features=features_of("item"), history_length=LENGTH)


def drawn(feature: Feature, number: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    if feature.is_dense:
        return rng.normal(size=(number, feature.max_length)).astype(np.float32)
    shape = (number, feature.max_length) if feature.is_bag else (number,)
    return padded(rng.integers(1, feature.num_ids, shape).astype(np.int32), rng)


def padded(ids: npt.NDArray[np.int32], rng: np.random.Generator) -> npt.NDArray[np.int32]:
    """Some rows are cut short, one to nothing."""
    if ids.ndim == 1:
        return ids
    lengths = rng.integers(0, ids.shape[1] + 1, len(ids))
    lengths[0] = 0
    return np.where(np.arange(ids.shape[1]) < lengths[:, np.newaxis], ids, 0).astype(np.int32)


def original_and_portable(**options: Any) -> tuple[tf.keras.Model, tf.keras.Model]:
    """A query tower with random weights, and the same to convert."""
    rng = np.random.default_rng(0)
    items = {feature.name: drawn(feature, 200, rng) for feature in SCHEMA.item_features}
    items["item_id"] = np.arange(3, 203, dtype=np.int32)
    config = ModelConfig.model_validate({"embedding_dim": 16} | options)
    tf.keras.utils.set_random_seed(0)
    towers = build_towers(SCHEMA, config, items)
    for weight in towers.query.trainable_weights:  # biases and what attention asks for begin as zeros
        if not np.any(weight):
            weight.assign(rng.normal(size=weight.shape) / 10)
    return towers.query, portable_query_tower(towers, SCHEMA, config, items)


def queries(tower: tf.keras.Model) -> Features:
    rng = np.random.default_rng(1)
    asked = {feature.name: drawn(feature, QUERIES, rng) for feature in SCHEMA.user_features}
    asked["history"] = padded(rng.integers(1, 203, (QUERIES, LENGTH)).astype(np.int32), rng)
    return {name: asked[name] for name in tower.input}


def by_tflite(content: bytes, asked: Features) -> Embeddings:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that its successor is a package of its own
        runner = tf.lite.Interpreter(model_content=content).get_signature_runner("serving_default")
    answers = [runner(**{name: values[[row]] for name, values in asked.items()}) for row in range(QUERIES)]
    return np.concatenate([answer["embedding"] for answer in answers])


def by_onnx(content: bytes, asked: Features) -> Embeddings:
    embeddings: Embeddings = onnxruntime.InferenceSession(content).run(["embedding"], asked)[0]
    return embeddings


KINDS: dict[str, dict[str, Any]] = {
    "ids alone": {"query": {"content_features": False}},
    "mean": {"query": {"hidden_units": (64,), "pooling": "sum"}, "history": {"content_features": True}},
    "recency": {"item_bias": True, "history": {"encoder": {"name": "recency"}, "content_features": True}},
    "gru": {"candidate": {"pooling": "attention"}, "history": {"encoder": {"name": "gru"}, "content_features": True}},
    "self_attention": {
        "normalize": False,
        "query": {"use_id": False, "pooling": "attention"},
        "history": {"encoder": {"name": "self_attention"}, "content_features": True},
    },
    "history alone": {"normalize": False, "query": {"use_id": False, "content_features": False}},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_onnx_is_the_tower_in_float32(kind: str) -> None:
    original, portable = original_and_portable(**KINDS[kind])
    asked = queries(original)
    np.testing.assert_allclose(by_onnx(onnx.convert(portable), asked), original(asked), rtol=0, atol=1e-5)


@every_kind
def test_tflite_is_the_tower_in_int8(kind: str) -> None:
    """In direction and length; where a tower sees histories alone, those without any are zeros."""
    original, portable = original_and_portable(**KINDS[kind])
    asked = queries(original)
    found, expected = by_tflite(tflite.convert(portable), asked), original(asked).numpy()
    lengths, expected_lengths = np.linalg.norm(found, axis=1), np.linalg.norm(expected, axis=1)
    np.testing.assert_allclose(lengths, expected_lengths, rtol=0.02)
    assert (expected_lengths[0] == 0) is np.bool_(kind == "history alone")
    assert ((found * expected).sum(axis=1) >= 0.999 * lengths * expected_lengths).all()


def user_table(num_ids: int, embedding_dim: int) -> tf.keras.Model:
    """A tower that knows users by id alone."""
    users, items = ((Feature(name=name, type="id", num_ids=num_ids, num_oov=1),) for name in ("user_id", "item_id"))
    schema = Schema(user_features=users, item_features=items, history_length=0)
    return build_towers(schema, ModelConfig(embedding_dim=embedding_dim)).query


def test_tflite_holds_a_byte_for_each_number_of_a_table() -> None:
    tower = user_table(2000, 64)
    assert len(onnx.convert(tower)) > 4 * 2000 * 64
    assert len(tflite.convert(tower)) < 1.15 * 2000 * 64


def test_each_row_of_a_table_keeps_its_direction_in_int8() -> None:
    """Whatever its length; with one scale for all rows, most of these would be zeros."""
    rng = np.random.default_rng(0)
    table = (rng.normal(size=(400, 32)) * 10 ** rng.uniform(-1.5, 1.5, (400, 1))).astype(np.float32)
    table[7] = 0
    tower = user_table(400, 32)
    tower.set_weights([table])
    round_tables(tower)
    found = tower.get_layer("user_id_embedding").read(tf.range(400)).numpy()
    assert (np.abs(found - table) <= np.abs(table).max(axis=1, keepdims=True) / 200).all()


def test_onnx_takes_batches_of_any_size_and_names_its_inputs() -> None:
    _, tower = original_and_portable(**KINDS["mean"])
    session = onnxruntime.InferenceSession(onnx.convert(tower))
    found = {value.name: (value.shape, value.type) for value in session.get_inputs()}
    assert found == {
        "history": (["batch", LENGTH], "tensor(int32)"),
        "user_id": (["batch"], "tensor(int32)"),
        "user_kind": (["batch"], "tensor(int32)"),
        "user_tags": (["batch", 3], "tensor(int32)"),
        "user_price": (["batch", 1], "tensor(float)"),
    }
    assert [(value.name, value.shape) for value in session.get_outputs()] == [("embedding", ["batch", 16])]
    asked = queries(tower)
    together = session.run(None, asked)[0]
    alone = [session.run(None, {name: values[[row]] for name, values in asked.items()})[0] for row in range(3)]
    np.testing.assert_allclose(np.concatenate(alone), together[:3], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("tflite", r"as TFLite in int8: expected cosines of 0\.999 or more"),
        ("onnx", r"as ONNX: expected numbers that differ by 1e-05 or less"),
    ],
)
def test_a_tower_that_answers_otherwise_is_refused(name: FormatName, complaint: str) -> None:
    original, asked = user_table(50, 8), {"user_id": np.arange(1, 41, dtype=np.int32)}

    def same() -> tf.keras.Model:
        copy = user_table(50, 8)
        copy.set_weights(original.get_weights())
        return copy

    expected = original(asked).numpy()
    [file] = convert_tower(same, asked, expected, [name])
    assert (file.name, file.agreement["queries"]) == (f"query_tower.{name}", 40)
    expected[-1] = np.roll(expected[-1], 1)
    with pytest.raises(BundleError) as error:
        convert_tower(same, asked, expected, [name])
    message = rf"the query tower answers otherwise {complaint} on 40 held-out queries, received -?0\.\d+; "
    assert re.fullmatch(rf"{message}leave --{name} away", str(error.value))
    expected[-1] = np.nan
    with pytest.raises(BundleError, match="received nan"):
        convert_tower(same, asked, expected, [name])


@pytest.mark.parametrize(("name", "title"), [("tflite", "TFLite"), ("onnx", "ONNX")])
def test_an_operation_that_a_format_lacks_is_named(name: FormatName, title: str) -> None:
    user_id = tf.keras.Input((), dtype=tf.int32, name="user_id")
    strange = tf.keras.layers.Lambda(lambda ids: tf.math.zeta(2.0 + tf.cast(ids, tf.float32)[:, tf.newaxis], 1.0))
    tower = tf.keras.Model({"user_id": user_id}, strange(user_id))
    with pytest.raises(BundleError) as error:
        convert_tower(lambda: tower, {"user_id": np.ones(4, np.int32)}, np.ones((4, 1), np.float32), [name])
    message = rf"the query tower cannot be written as {title} \(.*Zeta.*\); leave --{name} away"
    assert re.fullmatch(message, str(error.value))


@pytest.mark.parametrize(("name", "title", "size"), [("tflite", "TFLite in int8", 400), ("onnx", "ONNX", 1600)])
def test_a_tower_beyond_what_a_file_holds_is_refused(
    name: FormatName, title: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_LARGEST_FILE_BYTES", 399)
    with pytest.raises(BundleError) as error:
        convert_tower(lambda: user_table(50, 8), {"user_id": np.ones(4, np.int32)}, np.ones((4, 8), np.float32), [name])
    assert str(error.value) == (
        f"the query tower takes {size:,} bytes as {title}: expected at most 399, which is all that such a file holds; "
        f"leave --{name} away, or train without the users' ids (model.query.use_id)"
    )


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    files.require(["tflite"])
    with pytest.raises(ConfigError) as error:
        files.require(["tflite", "onnx"])
    assert str(error.value) == (
        "--onnx needs tf2onnx and onnxruntime (import of tf2onnx halted; None in sys.modules): "
        "pip install 'recsys[onnx]'"
    )
