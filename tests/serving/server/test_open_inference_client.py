"""The Open Inference Protocol's REST API by the client that is generated from its specification."""

from typing import Any

import numpy as np
import pytest
from open_inference.openapi.client import OpenInferenceClient
from open_inference.openapi.errors import BadRequestError, NotFoundError
from open_inference.openapi.types import InferenceRequest, RequestInput, RequestOutput, TensorData
from running_server import Server


@pytest.fixture(scope="module")
def client(server: Server) -> OpenInferenceClient:
    return OpenInferenceClient(base_url=server.rest, httpx_client=server.http)


def tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> RequestInput:
    return RequestInput(name=name, datatype=datatype, shape=shape, data=TensorData.parse_obj(data))


def test_the_server_and_its_model_are_alive_ready_and_described(client: OpenInferenceClient) -> None:
    client.check_server_liveness()
    client.check_server_readiness()
    client.check_model_readiness("tiny")
    client.check_model_version_readiness("tiny", "1")
    assert client.read_server_metadata().name == "recsys"
    for metadata in (client.read_model_metadata("tiny"), client.read_model_version_metadata("tiny", "1")):
        assert (metadata.name, metadata.versions, metadata.platform) == ("tiny", ["1"], "tensorflow_savedmodel")
        assert [(one.name, one.datatype, one.shape) for one in metadata.inputs or []] == [("user_id", "BYTES", [-1])]


@pytest.mark.parametrize("version", [None, "1"])
def test_an_inference_is_answered(server: Server, client: OpenInferenceClient, version: str | None) -> None:
    request = InferenceRequest(
        id="request-9",
        inputs=[tensor("user_id", "BYTES", [2], ["u1", "u7"])],
        outputs=[RequestOutput(name="scores"), RequestOutput(name="item_ids")],
    )
    answer = (
        client.model_infer("tiny", request=request)
        if version is None
        else client.model_version_infer("tiny", version, request=request)
    )
    assert (answer.id, answer.model_name, answer.model_version) == ("request-9", "tiny", "1")
    scores, items = answer.outputs
    expected = server.http.post("/v1/models/tiny:predict", json={"inputs": ["u1", "u7"]}).json()["outputs"]
    assert (scores.name, scores.datatype, scores.shape) == ("scores", "FP32", [2, 100])
    np.testing.assert_allclose(np.reshape(scores.data.__root__, scores.shape), expected["scores"], atol=1e-5)
    assert (items.name, items.datatype, items.shape) == ("item_ids", "BYTES", [2, 100])
    assert np.reshape(items.data.__root__, items.shape).tolist() == expected["item_ids"]


def test_numbers_may_be_written_as_the_client_writes_them(client: OpenInferenceClient) -> None:
    # It knows one type of numbers and sends 3.0.
    inputs = [tensor("item_id", "BYTES", [1], ["i3"]), tensor("k", "INT32", [], [3])]
    request = InferenceRequest(inputs=inputs, parameters={"signature_name": "similar_items"})
    assert '"data": [3.0]' in request.json()
    outputs = {output.name: output for output in client.model_infer("tiny", request=request).outputs}
    assert outputs["item_ids"].shape == [1, 3]


def test_refusals_are_the_protocols(client: OpenInferenceClient) -> None:
    with pytest.raises(NotFoundError) as unknown:
        client.check_model_readiness("other")
    assert unknown.value.body == {"error": "Servable not found for request: Latest(other)"}
    with pytest.raises(BadRequestError) as bad:
        client.model_infer("tiny", request=InferenceRequest(inputs=[tensor("user_id", "FP32", [1], [1.5])]))
    assert bad.value.body == {"error": "input user_id: expected BYTES, received 'FP32'"}
