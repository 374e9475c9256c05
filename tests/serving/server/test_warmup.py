"""The first calls of a model: every signature's, and those that its bundle records."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_log_pb2 import ClassifyLog, PredictionLog, PredictLog

from recsys.errors import BundleError
from serving.bundle import Bundle, open_bundle
from serving.server.warmup import warm_up

REQUESTS = "assets.extra/tf_serving_warmup_requests"


@pytest.fixture(scope="module")
def bundle(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A verified bundle, whose file of requests the tests change behind its back."""
    models = tmp_path_factory.mktemp("warm-up") / "tiny"
    shutil.copytree(tiny_models / "tiny" / "1", models / "1")
    return open_bundle(models)


def log(signature: str = "", **inputs: object) -> bytes:
    request = PredictRequest()
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return PredictionLog(predict_log=PredictLog(request=request)).SerializeToString()


def record(bundle: Bundle, logs: Sequence[bytes]) -> None:
    with tf.io.TFRecordWriter(str(bundle.path / REQUESTS)) as writer:
        for content in logs:
            writer.write(content)


def test_recorded_requests_are_replayed(bundle: Bundle) -> None:
    similar = log("similar_items", item_id=["i3"], k=2)
    record(bundle, [log(user_id=["u1", "u2"]), similar, log("serving_default", user_id=["u7"])])
    assert warm_up(bundle) == 3


def test_a_missing_or_an_empty_file_is_fine(bundle: Bundle) -> None:
    record(bundle, [])
    assert warm_up(bundle) == 0
    (bundle.path / REQUESTS).unlink()
    assert warm_up(bundle) == 0


def test_a_thousand_requests_are_replayed_and_one_more_is_refused(bundle: Bundle) -> None:
    similar = log("similar_items", item_id=["i3"], k=1)
    record(bundle, [similar] * 1000)
    assert warm_up(bundle) == 1000
    record(bundle, [similar] * 1001)
    with pytest.raises(BundleError) as error:
        warm_up(bundle)
    assert str(error.value) == f"{bundle.path / REQUESTS} has too many requests: expected at most 1000"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        pytest.param(log("none", user_id=["u1"]), "KeyError", id="unknown-signature"),
        pytest.param(log(user=["u1"]), "TypeError", id="unknown-input"),
        pytest.param(log("similar_items", item_id=["i3"], k=0), "InvalidArgumentError", id="bad-value"),
        pytest.param(PredictionLog(classify_log=ClassifyLog()).SerializeToString(), "ValueError", id="no-predict"),
        pytest.param(b"no message", "the file is damaged", id="no-message"),
    ],
)
def test_a_request_that_fails_fails_the_load(bundle: Bundle, bad: bytes, reason: str) -> None:
    record(bundle, [log(user_id=["u1"]), bad])
    with pytest.raises(BundleError) as error:
        warm_up(bundle)
    expected = f"{bundle.path / REQUESTS}: warm-up request 2 fails ({reason}); export it again"
    assert str(error.value) == expected


def test_a_file_that_is_cut_short_fails_the_load(bundle: Bundle) -> None:
    record(bundle, [log(user_id=["u1"])])
    content = (bundle.path / REQUESTS).read_bytes()
    (bundle.path / REQUESTS).write_bytes(content[:-3])
    with pytest.raises(BundleError) as error:
        warm_up(bundle)
    expected = f"{bundle.path / REQUESTS}: warm-up request 1 fails (the file is damaged); export it again"
    assert str(error.value) == expected
