"""TensorFlow Serving's REST API, line by line, by plain HTTP."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import tensorflow as tf
from running_server import Server

from serving.bundle import open_bundle

PREDICT = "/v1/models/tiny:predict"


@pytest.fixture(scope="module")
def expected(tiny_models: Path) -> Callable[[list[str]], dict[str, Any]]:
    """What the SavedModel itself answers to users, as lists."""
    signature = open_bundle(tiny_models / "tiny").model.signatures["serving_default"]

    def ask(users: list[str]) -> dict[str, Any]:
        answer = signature(user_id=tf.constant(users))
        ids = [[item.decode() for item in row] for row in answer["item_ids"].numpy()]
        return {"item_ids": ids, "scores": answer["scores"].numpy().tolist()}

    return ask


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """Requires TensorFlow Serving's form of errors."""
    assert answer.headers["content-type"] == "application/json"
    content = answer.json()
    assert list(content) == ["error"]
    return answer.status_code, content["error"]


@pytest.mark.parametrize("path", ["tiny", "tiny/versions/1", "tiny/labels/stable"])
def test_rows_are_answered_row_by_row(server: Server, expected: Any, path: str) -> None:
    users = ["u1", "nobody knows", "u7"]
    answer = server.http.post(f"/v1/models/{path}:predict", json={"instances": [{"user_id": user} for user in users]})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    wanted = expected(users)
    assert list(answer.json()) == ["predictions"]
    rows = answer.json()["predictions"]
    assert [row["item_ids"] for row in rows] == wanted["item_ids"]
    assert [row["scores"] for row in rows] == [pytest.approx(scores, abs=1e-5) for scores in wanted["scores"]]


def test_columns_are_answered_by_columns(server: Server, expected: Any) -> None:
    answer = server.http.post(PREDICT, json={"signature_name": "serving_default", "inputs": {"user_id": ["u1", "u7"]}})
    assert list(answer.json()) == ["outputs"]
    outputs = answer.json()["outputs"]
    assert set(outputs) == {"item_ids", "scores"}
    assert outputs["item_ids"] == expected(["u1", "u7"])["item_ids"]


@pytest.mark.parametrize("body", [{"instances": ["u1", "u7"]}, {"inputs": ["u1", "u7"]}])
def test_the_name_of_a_single_input_may_be_dropped(server: Server, expected: Any, body: dict[str, Any]) -> None:
    content = server.http.post(PREDICT, json=body).json()
    ids = content["outputs"]["item_ids"] if "inputs" in body else [row["item_ids"] for row in content["predictions"]]
    assert ids == expected(["u1", "u7"])["item_ids"]


def test_of_a_single_output_the_name_is_dropped(server: Server) -> None:
    body = {"signature_name": "embed_query", "instances": [{"user_id": "u1", "history": []}] * 2}
    rows = server.http.post(PREDICT, json=body).json()
    assert [len(row) for row in rows["predictions"]] == [16, 16]
    columns = {"user_id": ["u1", "u1"], "history": [[], []]}
    outputs = server.http.post(PREDICT, json={"signature_name": "embed_query", "inputs": columns}).json()
    assert outputs == {"outputs": rows["predictions"]}


def test_binary_is_base64(server: Server, expected: Any) -> None:
    encoded = {"b64": base64.b64encode(b"u7").decode()}
    for instances in ([{"user_id": encoded}], [encoded]):
        [row] = server.http.post(PREDICT, json={"instances": instances}).json()["predictions"]
        assert row["item_ids"] == expected(["u7"])["item_ids"][0]


def test_scalars_and_lists_go_by_columns(server: Server) -> None:
    inputs = {"user_id": ["u1", ""], "history": [["i3", "i14"], ["i3", ""]], "exclude": [[], []], "k": 4}
    outputs = server.http.post(PREDICT, json={"signature_name": "recommend", "inputs": inputs}).json()["outputs"]
    assert [len(ids) for ids in outputs["item_ids"]] == [4, 4]
    assert outputs["known"] == [True, False]
    assert "i3" not in outputs["item_ids"][0] + outputs["item_ids"][1]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "JSON Parse error: "),
        (b"[]", "expected a JSON object, received an array"),
        (b'"\\ud800"', "JSON Parse error: "),
        (b"[" * 100_000, "JSON Parse error: "),
        ({}, "expected exactly one of 'instances' (rows) and 'inputs' (columns)"),
        ({"instances": ["u1"], "inputs": ["u1"]}, "expected exactly one of 'instances' (rows) and 'inputs' (columns)"),
        ({"instances": []}, "'instances': expected a non-empty array"),
        ({"instances": {}}, "'instances': expected a non-empty array"),
        ({"instances": [{"user_id": "u1"}, 3]}, "'instances': expected objects only, received a number"),
        ({"instances": [{"user": "u1"}]}, "instances: expected the inputs user_id; missing user_id, not known 1"),
        ({"inputs": {}}, "inputs: expected the inputs user_id; missing user_id, not known 0"),
        ({"instances": [7]}, "input user_id: expected string, received a number"),
        ({"instances": [None]}, "input user_id: expected string, received null"),
        ({"instances": [{"b64": "?"}]}, "input user_id: Unable to base64 decode"),
        ({"instances": [{"user_id": ["u1"]}]}, "input user_id: expected string, received an array"),
        ({"inputs": "u1"}, "input user_id: expected string [any], received lists 0 deep"),
        ({"signature_name": 3, "inputs": ["u1"]}, "signature_name: expected a string, received a number"),
        ({"signature_name": "none", "inputs": ["u1"]}, 'Serving signature key "none" not found.'),
        (
            {"signature_name": "embed_query", "inputs": {"user_id": ["a", "b"], "history": [["i"], []]}},
            "input history is ragged: expected lists of 1 elements, received 0",
        ),
        (
            {"signature_name": "embed_query", "inputs": {"user_id": ["a", "b"], "history": [[]]}},
            "inputs have unequal batch dimensions: 1, 2",
        ),
        ({"signature_name": "embed_query", "instances": ["a"]}, "expected the named inputs history, user_id"),
        (
            {"signature_name": "similar_items", "instances": [{"item_id": "i1", "k": 3}]},
            "signature similar_items takes k once for all rows: send 'inputs' (columns)",
        ),
        (
            {"signature_name": "similar_items", "inputs": {"item_id": ["i1"], "k": 1.5}},
            "input k: expected int32, received a number",
        ),
        (
            {"signature_name": "similar_items", "inputs": {"item_id": ["i1"], "k": 2**40}},
            "input k: expected int32, received a number beyond its range",
        ),
        ({"signature_name": "similar_items", "inputs": {"item_id": ["i1"], "k": 294}}, "k = 294: expected 1 … 293"),
        ({"signature_name": "similar_items", "inputs": {"item_id": ["i1"], "k": 0}}, "k = 0: expected 1 … 293"),
        ({"inputs": {"user_id": []}}, "a batch of 0: expected 1 … 1024 rows"),
        ({"instances": ["u"] * 1025}, "a batch of 1025: expected 1 … 1024 rows"),
        ({"instances": ["u" * 257]}, "user_id has a string of 257 bytes: expected at most 256"),
        (
            {"signature_name": "embed_query", "inputs": {"user_id": ["a"], "history": [["i"] * 1001]}},
            "history has 1001 elements: expected at most 1000",
        ),
    ],
)
def test_what_cannot_be_answered_is_400_and_says_why(server: Server, body: Any, message: str) -> None:
    sent = {"content": body} if isinstance(body, bytes) else {"json": body}
    status, error = refusal(server.http.post(PREDICT, **sent))
    assert status == 400
    assert error.startswith(message) if message.endswith(": ") else error == message


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("other", "Servable not found for request: Latest(other)"),
        ("tiny/versions/7", "Servable not found for request: Specific(tiny, 7)"),
        ("other/versions/7", "Servable not found for request: Specific(other, 7)"),
    ],
)
def test_an_unknown_model_or_version_is_404(server: Server, path: str, message: str) -> None:
    predict = server.http.post(f"/v1/models/{path}:predict", json={"instances": ["u1"]})
    assert refusal(predict) == (404, message)
    assert refusal(server.http.get(f"/v1/models/{path}")) == (404, message)
    assert refusal(server.http.get(f"/v1/models/{path}/metadata")) == (404, message)


@pytest.mark.parametrize("label", ["canary", "other"])
def test_an_unknown_label_is_400(server: Server, label: str) -> None:
    expected = (400, f"Unrecognized servable version label: {label}")
    predict = server.http.post(f"/v1/models/tiny/labels/{label}:predict", json={"instances": ["u1"]})
    assert refusal(predict) == expected
    assert refusal(server.http.get(f"/v1/models/tiny/labels/{label}")) == expected
    assert refusal(server.http.get(f"/v1/models/tiny/labels/{label}/metadata")) == expected


def test_a_version_that_is_no_number_of_64_bits_is_400(server: Server) -> None:
    answer = server.http.get(f"/v1/models/tiny/versions/{1 << 63}")
    assert refusal(answer) == (400, "Failed to convert version: it is too large to be one")


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", "/v1/"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/"),
        ("GET", "/v1/models/tiny:predict"),
        ("POST", "/v1/models/tiny"),
        ("DELETE", "/v1/models/tiny"),
        ("POST", "/v1/models/tiny:classify"),
        ("POST", "/v1/models/tiny/versions/one:predict"),
        ("POST", "/v1/models/a/b:predict"),
        ("PATCH", "/v1/models/tiny"),
    ],
)
def test_a_bad_path_or_verb_is_400(server: Server, verb: str, path: str) -> None:
    assert refusal(server.http.request(verb, path)) == (400, f"Malformed request: {verb} {path}")


@pytest.mark.parametrize("path", ["tiny", "tiny/versions/1", "tiny/labels/stable"])
def test_the_status_has_tensorflow_servings_form(server: Server, path: str) -> None:
    assert server.http.get(f"/v1/models/{path}").json() == {
        "model_version_status": [
            {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }


@pytest.mark.parametrize("path", ["tiny", "tiny/versions/1", "tiny/labels/stable"])
def test_the_metadata_describes_every_signature(server: Server, path: str) -> None:
    content = server.http.get(f"/v1/models/{path}/metadata").json()
    assert content["model_spec"] == {"name": "tiny", "version": "1", "signature_name": ""}
    signatures = content["metadata"]["signature_def"]["signature_def"]
    assert {"serving_default", "recommend", "embed_query", "similar_items"} <= set(signatures)
    history = signatures["recommend"]["inputs"]["history"]
    assert history["dtype"] == "DT_STRING"
    assert history["tensor_shape"] == {"dim": [{"size": "-1", "name": ""}] * 2, "unknown_rank": False}
    assert signatures["recommend"]["inputs"]["k"]["tensor_shape"] == {"dim": [], "unknown_rank": False}
    assert signatures["recommend"]["method_name"] == "tensorflow/serving/predict"
