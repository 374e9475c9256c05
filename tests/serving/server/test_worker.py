"""What a model's process makes of a graph that raises."""

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from running_server import Server, publish
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.server.messages import Answer, Ask, Failed
from serving.server.worker import call

BY_REQUEST, BY_MODEL = "the model cannot answer these inputs", "the model failed"


@pytest.mark.parametrize(
    ("raised", "code", "reason"),
    [
        (ValueError, "INVALID_ARGUMENT", BY_REQUEST),
        (StopIteration, "OUT_OF_RANGE", BY_REQUEST),
        (MemoryError, "RESOURCE_EXHAUSTED", BY_MODEL),
        (NotImplementedError, "UNIMPLEMENTED", BY_MODEL),
        (RuntimeError, "INTERNAL", BY_MODEL),
    ],
)
def test_what_a_graph_raises_keeps_its_code(raised: type[Exception], code: str, reason: str) -> None:
    def fail() -> Any:
        raise raised("/home/somebody/secret")

    @tf.function
    def signature() -> dict[str, tf.Tensor]:
        # TensorFlow gives these exceptions of Python the codes of its own errors.
        return {"scores": tf.numpy_function(fail, [], tf.float32)}

    failed = call(signature, Ask("recommend", {}))
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.code.name) == (reason, code)
    assert failed.code.number == grpc.StatusCode[code].value[0]


def test_a_call_that_cannot_even_begin_is_the_models_fault() -> None:
    failed = call(lambda: None, Ask("recommend", {}))
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.code.name) == (BY_MODEL, "INTERNAL")


def test_a_call_gives_arrays() -> None:
    answer = call(lambda: {"scores": tf.constant([1.5])}, Ask("recommend", {}))
    assert isinstance(answer, Answer)
    assert answer.outputs["scores"].tolist() == [1.5]


def fail_on_request(bundle: Path) -> None:
    """Puts a graph in the place of the bundle's that unpacks what is no archive when it is asked for `fail`."""

    class Failing(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "user_id")])
        def __call__(self, user_id: tf.Tensor) -> dict[str, tf.Tensor]:
            packed = tf.where(user_id == "fail", "no archive", zlib.compress(b"said"))
            return {"said": tf.io.decode_compressed(packed, "ZLIB")}

    tf.saved_model.save(Failing(), str(bundle))
    (bundle / "assets.extra" / "tf_serving_warmup_requests").unlink()


def test_a_call_that_fails_is_a_line_of_json_with_its_request(tiny_models: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_models / "tiny" / "1", tmp_path / "models" / "tiny" / "1")
    publish(tmp_path / "models" / "tiny", 2, fail_on_request)
    server = Server(tmp_path / "models", tmp_path / "log")
    path = "/v1/models/tiny:predict"
    assert server.http.post(path, json={"instances": ["u1"]}).json() == {"predictions": ["said"]}
    answer = server.http.post(path, json={"instances": ["fail"]}, headers={"x-request-id": "mine-9"})
    assert (answer.status_code, answer.json()) == (500, {"error": "the model failed"})
    message = predict_pb2.PredictRequest()
    message.model_spec.name = "tiny"
    message.inputs["user_id"].CopyFrom(tf.make_tensor_proto(["fail"]))
    with grpc.insecure_channel(server.grpc) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.RpcError) as error:
            stub.Predict(message, timeout=10, metadata=(("x-request-id", "mine-10"),))
    assert (error.value.code().name, error.value.details()) == ("INTERNAL", "the model failed")
    assert server.stop() == 0
    lines = server.events("a call of serving_default failed")
    assert [(line["request_id"], line["level"], line["logger"]) for line in lines] == [
        ("mine-9", "ERROR", "recsys.serving"),
        ("mine-10", "ERROR", "recsys.serving"),
    ]
    assert all("DataLossError" in json.dumps(line) for line in lines)
