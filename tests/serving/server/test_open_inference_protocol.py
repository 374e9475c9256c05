"""The Open Inference Protocol's REST API, as its specification's clients speak it."""

import json
from typing import Any

import pytest
from running_server import Server

INFER = "/v2/models/tiny/infer"


def user_input(*users: str, **changes: Any) -> dict[str, Any]:
    return {"name": "user_id", "shape": [len(users)], "datatype": "BYTES", "data": list(users)} | changes


def test_the_server_and_its_health(server: Server) -> None:
    assert set(server.http.get("/v2").json()) == {"name", "version", "extensions"}
    assert server.http.get("/v2/health/live").json() == {"live": True}
    assert server.http.get("/v2/health/ready").json() == {"ready": True}


@pytest.mark.parametrize("path", ["tiny", "tiny/versions/1"])
def test_a_model_is_described_and_ready(server: Server, path: str) -> None:
    assert server.http.get(f"/v2/models/{path}").json() == {
        "name": "tiny",
        "versions": ["1"],
        "platform": "tensorflow_savedmodel",
        "inputs": [{"name": "user_id", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "item_ids", "datatype": "BYTES", "shape": [-1, 100]},
            {"name": "scores", "datatype": "FP32", "shape": [-1, 100]},
        ],
    }
    assert server.http.get(f"/v2/models/{path}/ready").json() == {"name": "tiny", "ready": True}


@pytest.mark.parametrize("path", [INFER, "/v2/models/tiny/versions/1/infer"])
def test_an_inference_echoes_its_id_and_names_who_answered(server: Server, path: str) -> None:
    answer = server.http.post(path, json={"id": "request-7", "inputs": [user_input("u1", "u7")]}).json()
    assert set(answer) == {"id", "model_name", "model_version", "outputs"}
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("request-7", "tiny", "1")
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert {name: (output["datatype"], output["shape"]) for name, output in outputs.items()} == {
        "item_ids": ("BYTES", [2, 100]),
        "scores": ("FP32", [2, 100]),
    }
    own = server.http.post("/recommend", json={"user_id": "u7", "k": 100}).json()
    assert outputs["item_ids"]["data"][100:] == [item["item_id"] for item in own["items"]]
    assert outputs["scores"]["data"][100:] == [pytest.approx(item["score"], abs=1e-5) for item in own["items"]]


def test_only_the_outputs_that_are_asked_for_are_given(server: Server) -> None:
    body = {"inputs": [user_input("u1")], "outputs": [{"name": "scores"}]}
    answer = server.http.post(INFER, json=body).json()
    assert [output["name"] for output in answer["outputs"]] == ["scores"]
    assert "id" not in answer


def test_data_may_be_nested_and_another_signature_named(server: Server) -> None:
    inputs = [
        user_input("u1", "u2"),
        {"name": "history", "shape": [2, 2], "datatype": "BYTES", "data": [["i3", "i14"], ["i15", ""]]},
        {"name": "exclude", "shape": [2, 0], "datatype": "BYTES", "data": []},
        {"name": "k", "shape": [], "datatype": "INT32", "data": [3]},
    ]
    answer = server.http.post(INFER, json={"inputs": inputs, "parameters": {"signature_name": "recommend"}}).json()
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert outputs["item_ids"]["shape"] == [2, 3]
    assert (outputs["known"]["datatype"], outputs["known"]["data"]) == ("BOOL", [True, True])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "inputs: field required"),
        (
            {"inputs": []},
            "inputs do not match signature serving_default: missing ['user_id'], not known 0; expected user_id",
        ),
        ({"inputs": [user_input("u1", name="user")]}, "inputs: expected user_id; received 'user'"),
        ({"inputs": [user_input("u1", datatype="FP32")]}, "input user_id: expected BYTES, received 'FP32'"),
        ({"inputs": [user_input("u1", shape=[2])]}, "input user_id: its shape has 2 elements, received 1"),
        ({"inputs": [user_input("u1", shape=[1, 1])]}, "input user_id: expected string [any], received string [1, 1]"),
        (
            # As many elements as there are, and no array could have so large axes.
            {"inputs": [user_input(shape=[0, 2**31, 2**31])]},
            "input user_id: expected string [any], received string [0, 2147483648, 2147483648]",
        ),
        ({"inputs": [user_input("u1", data=[7])]}, "input user_id: expected string, received a number"),
        ({"inputs": [user_input("u1"), user_input("u1")]}, "an input is given twice"),
        (
            {"inputs": [user_input("u1")], "outputs": [{"name": "none"}]},
            "output 'none' is not known: signature serving_default has item_ids, scores",
        ),
        (
            {"inputs": [user_input("u1")], "outputs": [{"name": "scores"}] * 2},
            "an output is named twice: expected each of item_ids, scores at most once",
        ),
        (
            {"inputs": [user_input("u1")], "parameters": {"signature_name": "none"}},
            'Serving signature key "none" not found.',
        ),
        (
            {"inputs": [user_input("u1", data=json.loads("[" * 9 + "]" * 9))]},
            "data is nested too deep: expected at most 8 lists in each other",
        ),
    ],
)
def test_what_cannot_be_answered_is_400_and_says_why(server: Server, body: dict[str, Any], message: str) -> None:
    answer = server.http.post(INFER, json=body)
    assert (answer.status_code, answer.json()) == (400, {"error": message})


@pytest.mark.parametrize("k", [1.5, 1e300, True])
def test_a_number_that_is_no_integer_is_none(server: Server, k: object) -> None:
    inputs = [
        {"name": "item_id", "shape": [1], "datatype": "BYTES", "data": ["i3"]},
        {"name": "k", "shape": [], "datatype": "INT32", "data": [k]},
    ]
    answer = server.http.post(INFER, json={"inputs": inputs, "parameters": {"signature_name": "similar_items"}})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("input k: expected int32, received a ")


def test_tensors_in_binary_are_refused_in_so_many_words(server: Server) -> None:
    headers = {"inference-header-content-length": "2"}
    answer = server.http.post(INFER, content=b"{}\0\0", headers=headers)
    expected = "Inference-Header-Content-Length: tensors in binary are not supported; expected them in JSON"
    assert (answer.status_code, answer.json()) == (400, {"error": expected})


@pytest.mark.parametrize("path", ["other", "tiny/versions/7"])
def test_an_unknown_model_or_version_is_404(server: Server, path: str) -> None:
    for answer in (
        server.http.get(f"/v2/models/{path}"),
        server.http.get(f"/v2/models/{path}/ready"),
        server.http.post(f"/v2/models/{path}/infer", json={"inputs": [user_input("u1")]}),
    ):
        assert answer.status_code == 404
        assert list(answer.json()) == ["error"]
