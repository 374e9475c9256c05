"""Requests that nobody would think of: no 5xx, no crash, no traceback and no path in an answer."""

from typing import Any

import grpc
import hypothesis
import pytest
import schemathesis
from hypothesis import strategies as st
from running_server import Server
from tensorflow_serving.apis import model_management_pb2, predict_pb2

_EXAMPLES = 12
_OVERLOADED = 503
_MODEST = hypothesis.settings(
    max_examples=_EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)


def require_harmless(server: Server, status: int, text: str) -> None:
    assert status < 500 or status == _OVERLOADED, text
    assert "Traceback" not in text
    assert ".py" not in text
    assert "/tmp" not in text  # noqa: S108  where this test's bundles are
    assert server.process.poll() is None


def test_schemathesis_finds_no_failure(server: Server) -> None:
    document = server.http.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    for result in schema.get_all_operations():
        operation = result.ok()

        @_MODEST
        @hypothesis.given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            answer = case.call(base_url=server.rest)
            require_harmless(server, answer.status_code, answer.text)
            if answer.status_code == 200:
                case.validate_response(answer)

        ask()


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.just({"b64": "dTE="}),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["user_id", "k", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)
_SIGNATURES = st.sampled_from(
    [
        *("", "serving_default", "recommend", "recommend_with_options", "recommend_exactly"),
        *("embed_query", "similar_items", "explain"),
    ]
)
_STRINGS, _MANY = st.lists(st.text(max_size=4), max_size=4), st.sampled_from([0, 1, 2, 1025, 2**31])
_BODIES = {
    "/v1/models/tiny:predict": (
        st.builds(lambda name, value: {"signature_name": name, "inputs": value}, _SIGNATURES, _VALUES)
        | st.builds(lambda name, value: {"signature_name": name, "instances": [value, value]}, _SIGNATURES, _VALUES)
    ),
    "/v2/models/tiny/infer": st.fixed_dictionaries(
        {
            "parameters": st.fixed_dictionaries({"signature_name": _SIGNATURES}),
            "inputs": st.lists(
                st.fixed_dictionaries(
                    {
                        "name": st.sampled_from(["user_id", "history", "exclude", "categories", "item_id", "k"]),
                        "datatype": st.sampled_from(["BYTES", "INT32"]),
                        "shape": st.lists(_MANY, max_size=4),
                        "data": st.just([]) | _STRINGS | _VALUES,
                    }
                ),
                min_size=1,
                max_size=4,
                unique_by=lambda given: given["name"],
            ),
        }
    ),
    "/recommend": st.fixed_dictionaries(
        {}, optional={"user_id": st.text(max_size=4), "history": _STRINGS, "categories": _STRINGS, "leaves": _MANY}
    ),
    "/similar": st.fixed_dictionaries({"item_id": st.text(max_size=4)}, optional={"k": _MANY}),
    "/explain": st.builds(
        lambda items, history, rows, width: {"item_ids": items * rows, "history": history * width},
        *(_STRINGS, _STRINGS, *(st.sampled_from([1, 300, 2000]),) * 2),
    ),
}


@pytest.mark.parametrize("path", _BODIES)
def test_no_body_harms(server: Server, path: str) -> None:
    keys = ["signature_name", "instances", "inputs", "user_id", "history", "exclude", "k", "item_id", "item_ids"]

    @hypothesis.settings(_MODEST, max_examples=60)
    @hypothesis.given(content=st.binary(max_size=64) | st.dictionaries(st.sampled_from(keys), _VALUES) | _BODIES[path])
    def ask(content: Any) -> None:
        sent = {"content": content} if isinstance(content, bytes) else {"json": content}
        answer = server.http.post(path, **sent)
        require_harmless(server, answer.status_code, answer.text)

    ask()


@pytest.mark.parametrize("method", ["PredictionService/Predict", "ModelService/HandleReloadConfigRequest"])
def test_no_message_harms(server: Server, method: str) -> None:
    predict = predict_pb2.PredictRequest()
    predict.model_spec.name = "tiny"
    predict.inputs["user_id"].string_val.append(b"u1")
    reload = model_management_pb2.ReloadConfigRequest()
    reload.config.model_config_list.config.add(name="tiny", base_path="/")
    right = (predict if method.endswith("Predict") else reload).SerializeToString()

    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(f"/tensorflow.serving.{method}")

        @hypothesis.settings(_MODEST, max_examples=80)
        @hypothesis.given(where=st.integers(0, len(right)), junk=st.binary(max_size=12), drop=st.integers(0, 6))
        def ask(where: int, junk: bytes, drop: int) -> None:
            outcome = call.future(right[:where] + junk + right[where + drop :], timeout=10)
            assert outcome.code() not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
            require_harmless(server, 400, outcome.details())

        ask()
