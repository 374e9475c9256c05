"""gRPC, by TensorFlow Serving's own stubs and the standard health service's."""

import re
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from running_server import Server
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.apis.model_pb2 import ModelSpec

Request = predict_pb2.PredictRequest


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc) as opened:
        yield opened


@pytest.fixture(scope="module")
def predict(channel: grpc.Channel) -> Any:
    return prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict


def request(users: list[str], **spec: Any) -> Any:
    made = Request()
    made.model_spec.name = spec.get("name", "tiny")
    made.model_spec.signature_name = spec.get("signature", "")
    if "version" in spec:
        made.model_spec.version.value = spec["version"]
    if "label" in spec:
        made.model_spec.version_label = spec["label"]
    made.inputs["user_id"].CopyFrom(tf.make_tensor_proto(users))
    return made


def refusal(method: Any, message: Any, **options: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as error:
        method(message, timeout=10, **options)
    return error.value.code(), error.value.details()


@pytest.mark.parametrize("spec", [{}, {"version": 1}, {"label": "stable"}, {"signature": "serving_default"}])
def test_predict_answers_and_names_who_did(server: Server, predict: Any, spec: dict[str, Any]) -> None:
    answer = predict(request(["u1", "u7"], **spec), timeout=10)
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("tiny", 1)
    assert answer.model_spec.signature_name == "serving_default"
    ids, scores = tf.make_ndarray(answer.outputs["item_ids"]), tf.make_ndarray(answer.outputs["scores"])
    rest = server.http.post("/v1/models/tiny:predict", json={"inputs": ["u1", "u7"]}).json()["outputs"]
    assert [[item.decode() for item in row] for row in ids] == rest["item_ids"]
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, rest["scores"], atol=1e-5)
    # As clients read that know no `tensor_content`: TensorFlow Serving's own examples do.
    np.testing.assert_array_equal(answer.outputs["scores"].float_val, scores.ravel())
    assert list(answer.outputs["item_ids"].string_val) == ids.ravel().tolist()


def test_every_kind_of_input_is_taken(predict: Any) -> None:
    message = request(["u1"], signature="recommend")
    message.inputs["history"].CopyFrom(tf.make_tensor_proto([["i3", "i14"]]))
    message.inputs["exclude"].CopyFrom(tf.make_tensor_proto(np.empty((1, 0), object), tf.string, (1, 0)))
    message.inputs["k"].CopyFrom(tf.make_tensor_proto(3, tf.int32))
    answer = predict(message, timeout=10)
    assert tf.make_ndarray(answer.outputs["item_ids"]).shape == (1, 3)
    assert tf.make_ndarray(answer.outputs["known"]).tolist() == list(answer.outputs["known"].bool_val) == [True]
    assert list(answer.outputs["num_items"].int_val) == [3]


def test_the_output_filter_is_honoured(predict: Any) -> None:
    message = request(["u1"])
    message.output_filter.append("scores")
    assert list(predict(message, timeout=10).outputs) == ["scores"]


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["none"], "output 'none' is not known: signature serving_default has item_ids, scores"),
        (["scores", "scores"], "an output is named twice: expected each of item_ids, scores at most once"),
    ],
)
def test_an_unknown_or_repeated_output_is_an_invalid_argument(predict: Any, names: list[str], complaint: str) -> None:
    message = request(["u1"])
    message.output_filter.extend(names)
    assert refusal(predict, message) == (grpc.StatusCode.INVALID_ARGUMENT, complaint)


@pytest.mark.parametrize(
    ("spec", "code", "complaint"),
    [
        ({"name": ""}, "INVALID_ARGUMENT", "Missing ModelSpec name"),
        ({"name": "other"}, "NOT_FOUND", "Servable not found for request: Latest(other)"),
        ({"version": 7}, "NOT_FOUND", "Servable not found for request: Specific(tiny, 7)"),
        ({"label": "none"}, "INVALID_ARGUMENT", "Unrecognized servable version label: none"),
        ({"signature": "none"}, "FAILED_PRECONDITION", 'Serving signature key "none" not found.'),
    ],
)
def test_an_unknown_model_version_label_or_signature(
    predict: Any, spec: dict[str, Any], code: str, complaint: str
) -> None:
    assert refusal(predict, request(["u1"], **spec)) == (grpc.StatusCode[code], complaint)


def bad_tensor(**changes: Any) -> Any:
    message = request(["u1"])
    proto = message.inputs["user_id"]
    proto.Clear()
    proto.dtype = changes.get("dtype", tf.string.as_datatype_enum)
    for size in changes.get("shape", [1]):
        proto.tensor_shape.dim.add(size=size)
    proto.string_val.extend(changes.get("values", []))
    proto.tensor_content = changes.get("content", b"")
    return message


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"dtype": 20}, "input user_id: its dtype, number 20, is not supported"),
        ({"dtype": 0}, "input user_id: its dtype, number 0, is not supported"),
        ({"shape": [1 << 40], "values": [b"a"]}, "input user_id: expected a shape of at most 1048576 elements"),
        ({"shape": [-1]}, "input user_id: expected a shape of at most 1048576 elements"),
        ({"shape": [1], "content": b"abc"}, "input user_id: its values do not fit its dtype and shape"),
        ({"shape": [2], "values": [b"a"] * 3}, "input user_id: its values do not fit its dtype and shape"),
        ({"dtype": 1, "shape": [0]}, "input user_id: expected string [any], received float32 [0]"),
        ({"shape": [1, 1], "values": [b"a"]}, "input user_id: expected string [any], received string [1, 1]"),
    ],
)
def test_a_tensor_that_is_none_is_an_invalid_argument(predict: Any, changes: dict[str, Any], complaint: str) -> None:
    assert refusal(predict, bad_tensor(**changes)) == (grpc.StatusCode.INVALID_ARGUMENT, complaint)


def test_a_missing_input_is_named(predict: Any) -> None:
    assert refusal(predict, request(["u1"], signature="embed_query")) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "inputs do not match signature embed_query: missing ['history'], not known 0; expected history, user_id",
    )


def test_bytes_that_are_no_message_are_an_invalid_argument(channel: grpc.Channel) -> None:
    raw = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    assert refusal(raw, b"\xff\xff\xff") == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "the request is not a message of its type",
    )


def test_a_method_that_is_not_served_is_unimplemented(channel: grpc.Channel) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    from tensorflow_serving.apis.classification_pb2 import ClassificationRequest

    assert refusal(stub.Classify, ClassificationRequest())[0] is grpc.StatusCode.UNIMPLEMENTED


SPECS: list[dict[str, Any]] = [{}, {"version": {"value": 1}}, {"version_label": "stable"}]


@pytest.mark.parametrize("spec", SPECS)
def test_the_metadata_describes_every_signature(channel: grpc.Channel, spec: dict[str, Any]) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    asked.model_spec.CopyFrom(ModelSpec(name="tiny", **spec))
    answer = stub.GetModelMetadata(asked, timeout=10)
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("tiny", 1)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    assert {"serving_default", "recommend", "embed_query", "similar_items"} <= set(signatures.signature_def)
    asked.metadata_field[:] = ["other"]
    complaint = "metadata_field: expected [signature_def]"
    assert refusal(stub.GetModelMetadata, asked) == (grpc.StatusCode.INVALID_ARGUMENT, complaint)


@pytest.mark.parametrize("spec", SPECS)
def test_the_status_of_every_version_that_is_meant(channel: grpc.Channel, spec: dict[str, Any]) -> None:
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    asked = get_model_status_pb2.GetModelStatusRequest(model_spec=ModelSpec(name="tiny", **spec))
    [status] = models.GetModelStatus(asked, timeout=10).model_version_status
    available = get_model_status_pb2.ModelVersionStatus.State.AVAILABLE
    assert (status.version, status.state, status.status.error_code) == (1, available, 0)


@pytest.mark.parametrize(
    ("spec", "code", "complaint"),
    [
        ({"name": "other"}, "NOT_FOUND", "Servable not found for request: Latest(other)"),
        ({"version": {"value": 7}}, "NOT_FOUND", "Servable not found for request: Specific(tiny, 7)"),
        ({"version_label": "none"}, "INVALID_ARGUMENT", "Unrecognized servable version label: none"),
        ({"name": ""}, "INVALID_ARGUMENT", "Missing ModelSpec name"),
    ],
)
def test_what_is_not_served_has_neither_status_nor_metadata(
    channel: grpc.Channel, spec: dict[str, Any], code: str, complaint: str
) -> None:
    asked = ModelSpec(**{"name": "tiny"} | spec)
    status = get_model_status_pb2.GetModelStatusRequest(model_spec=asked)
    metadata = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=asked, metadata_field=["signature_def"])
    expected = (grpc.StatusCode[code], complaint)
    assert refusal(model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus, status) == expected
    assert refusal(prediction_service_pb2_grpc.PredictionServiceStub(channel).GetModelMetadata, metadata) == expected


def test_a_request_id_is_echoed_or_made_and_logged(server: Server, predict: Any) -> None:
    _, call = predict.with_call(request(["u1"]), timeout=10, metadata=(("x-request-id", "mine-8"),))
    assert ("x-request-id", "mine-8") in call.trailing_metadata()
    with pytest.raises(grpc.RpcError) as error:
        predict(request(["u1"], name="other"), timeout=10, metadata=(("x-request-id", "two words"),))
    [made] = [value for key, value in error.value.trailing_metadata() if key == "x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", made)
    answered, refused = server.line_of("mine-8"), server.line_of(made)
    assert (answered["method"], answered["model"], answered["status"]) == ("Predict", "tiny", "OK")
    assert (refused["method"], refused["model"], refused["status"]) == ("Predict", "", "NOT_FOUND")


@pytest.mark.parametrize("seconds", [1e-4, 1e-3])
def test_a_deadline_that_cannot_be_met_is_told_and_harms_nobody(predict: Any, seconds: float) -> None:
    with pytest.raises(grpc.RpcError) as error:
        predict(request(["u1"] * 500), timeout=seconds)
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert predict(request(["u1"]), timeout=10).outputs


def test_reloading_needs_an_admin(channel: grpc.Channel) -> None:
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    assert refusal(models.HandleReloadConfigRequest, model_management_pb2.ReloadConfigRequest()) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "the server has no admin tokens: start it with security.tokens",
    )


def test_the_health_service_answers(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    serving = health_pb2.HealthCheckResponse.SERVING
    assert stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status == serving
    assert next(iter(stub.Watch(health_pb2.HealthCheckRequest(), timeout=10))).status == serving
    unknown = health_pb2.HealthCheckRequest(service="none")
    assert refusal(stub.Check, unknown)[0] is grpc.StatusCode.NOT_FOUND


def test_a_message_that_is_too_large_is_refused(predict: Any) -> None:
    assert refusal(predict, request(["u" * 2_000_000]))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
