"""A server that takes little and waits for calls to fill up: what is too much or too late is refused at once."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import tensorflow as tf
from prometheus_client.parser import text_string_to_metric_families
from running_server import Server, children
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

PREDICT = "/v1/models/tiny:predict"
# Two rows make a call; a single one waits for another longer than its deadline.
SETTINGS = (
    "limits.body_bytes=2048",
    "limits.rows=3",
    "limits.k=5",
    "limits.history=2",
    "limits.exclude=1",
    "limits.string_bytes=4",
    "batching.max_batch_size=2",
    "batching.batch_timeout_micros=20000000",
    "batching.max_enqueued_batches=1",
    "batching.deadline_seconds=2",
)
LATE = "there was no answer within the deadline"
FULL = "the queue is full: try again later"


@pytest.fixture(scope="module")
def server(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tiny_models, tmp_path_factory.mktemp("limits") / "log", *SETTINGS)
    yield started
    assert started.stop() == 0


def recommend(server: Server, **changes: Any) -> tuple[int, Any]:
    """For two users, so that the call is full."""
    inputs = {"user_id": ["u1", "u7"], "history": [[]] * 2, "exclude": [[]] * 2, "k": 5} | changes
    answer = server.http.post(PREDICT, json={"signature_name": "recommend", "inputs": inputs})
    return answer.status_code, answer.json()


@pytest.mark.parametrize(
    ("most", "too_much", "message"),
    [
        ({"k": 5}, {"k": 6}, "k = 6: expected 1 … 5"),
        (
            {"history": [["i1", "i2"]] * 2},
            {"history": [["i1", "i2", "i3"]] * 2},
            "history has 3 elements: expected at most 2",
        ),
        ({"exclude": [["i1"]] * 2}, {"exclude": [["i1", "i2"]] * 2}, "exclude has 2 elements: expected at most 1"),
        (
            {"user_id": ["four", "ünd"]},
            {"user_id": ["u1", "fünf"]},
            "user_id has a string of 5 bytes: expected at most 4",
        ),
        (
            {"history": [["four"]] * 2},
            {"history": [["u1"], ["fifth"]]},
            "history has a string of 5 bytes: expected at most 4",
        ),
    ],
)
def test_what_is_allowed_is_answered_and_more_is_refused(
    server: Server, most: dict[str, Any], too_much: dict[str, Any], message: str
) -> None:
    assert recommend(server, **most)[0] == 200
    assert recommend(server, **too_much) == (400, {"error": message})


def test_a_batch_and_a_body_have_limits(server: Server) -> None:
    assert server.http.post(PREDICT, json={"instances": ["u1"] * 3}).status_code == 200
    answer = server.http.post(PREDICT, json={"instances": ["u1"] * 4})
    assert (answer.status_code, answer.json()) == (400, {"error": "a batch of 4: expected 1 … 3 rows"})
    answer = server.http.post(PREDICT, content=b"[" * 2049)
    assert (answer.status_code, answer.json()) == (
        413,
        {"error": "the body is too large: expected at most 2048 bytes"},
    )


def test_a_request_without_an_answer_in_time_is_504(server: Server) -> None:
    started = time.monotonic()
    answer = server.http.post("/recommend", json={"user_id": "u1", "k": 5})
    assert (answer.status_code, answer.json()) == (504, {"error": LATE})
    assert 2 <= time.monotonic() - started < 15


def calls(server: Server) -> dict[str, float]:
    """How many gRPC calls had which outcome."""
    families = {family.name: family for family in text_string_to_metric_families(server.http.get("/metrics").text)}
    samples = families["recsys_requests"].samples
    return {
        sample.labels["status"]: sample.value
        for sample in samples
        if sample.name == "recsys_requests_total" and sample.labels["protocol"] == "grpc"
    }


@pytest.mark.parametrize("ending", ["deadline", "cancel"])
def test_a_call_whose_client_has_gone_is_not_counted_as_answered(server: Server, ending: str) -> None:
    message = predict_pb2.PredictRequest()
    message.model_spec.name = "tiny"
    message.inputs["user_id"].CopyFrom(tf.make_tensor_proto(["u1"]))
    before = calls(server)
    with grpc.insecure_channel(server.grpc) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        metadata = (("x-request-id", f"gone-by-{ending}"),)
        call = stub.Predict.future(message, timeout=0.3 if ending == "deadline" else 10, metadata=metadata)
        if ending == "cancel":
            time.sleep(0.3)
            call.cancel()
        with pytest.raises((grpc.RpcError, grpc.FutureCancelledError)):
            call.result()
        line = server.line_of(f"gone-by-{ending}")
    after = calls(server)
    # The server may notice first that the client's time is over.
    assert line["status"] in {"deadline": ("CANCELLED", "DEADLINE_EXCEEDED"), "cancel": ("CANCELLED",)}[ending]
    assert {status: after[status] - before.get(status, 0) for status in after} == {
        status: float(status == line["status"]) for status in after
    }


def test_a_full_queue_refuses_at_once_over_rest_and_grpc(server: Server) -> None:
    ended = threading.Event()

    def wait() -> None:
        while not ended.is_set():
            server.http.post("/recommend", json={"user_id": "u1", "k": 5})

    waiting = threading.Thread(target=wait)
    users = ["u1", "u2", "u7"]
    message = predict_pb2.PredictRequest()
    message.model_spec.name = "tiny"
    message.inputs["user_id"].CopyFrom(tf.make_tensor_proto(users))
    with httpx.Client(base_url=server.rest) as client, grpc.insecure_channel(server.grpc) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        waiting.start()
        refused: dict[int | str, str] = {}
        until = time.monotonic() + 30
        while len(refused) < 2 and time.monotonic() < until:
            answer = client.post(PREDICT, json={"instances": users})
            if answer.status_code != 200:
                refused[answer.status_code] = answer.json()["error"]
            try:
                stub.Predict(message, timeout=10)
            except grpc.RpcError as error:
                refused[error.code().name] = error.details()
        ended.set()
        waiting.join()
    assert refused == {503: FULL, "UNAVAILABLE": FULL}


def test_a_model_that_hangs_keeps_nobody_waiting(server: Server) -> None:
    [worker] = [worker for child in children(server.process.pid) for worker in children(child)]
    outcomes: list[tuple[int, str]] = []

    def ask(path: str) -> None:
        answer = server.http.get(path)
        outcomes.append((answer.status_code, answer.json().get("error", "")))

    os.kill(worker, signal.SIGSTOP)
    try:
        searches = [threading.Thread(target=ask, args=("/items?query=i1",)) for _ in range(6)]
        for search in searches:
            search.start()
        assert recommend(server) == (504, {"error": LATE})
        for search in searches:
            search.join()
    finally:
        os.kill(worker, signal.SIGCONT)
    # Four may look at the same time.
    too_many = "too many search at the same time: try again later"
    assert sorted(outcomes) == [(503, too_many)] * 2 + [(504, LATE)] * 4
    outcomes.clear()
    ask("/items?query=i1")
    assert (outcomes, recommend(server)[0]) == ([(200, "")], 200)


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_it_listens_on_the_loopback_interface_only(server: Server, protocol: str) -> None:
    port = int(getattr(server, protocol).rpartition(":")[2])
    socket.create_connection(("127.0.0.1", port)).close()
    # Would be accepted by a socket that is bound to every interface.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port))
