"""Versions come and go under load, on a server with tokens, canary and two models."""

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from running_server import ADMIN, Server, children, publish, sign
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2, model_service_pb2_grpc
from tensorflow_serving.apis.model_pb2 import ModelSpec

pytestmark = pytest.mark.slow

USER = {"authorization": "Bearer the-token"}
ASKED = {"model": "tiny", "user_id": "u3", "k": 5}


@pytest.fixture(scope="module")
def models(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with version 1 of `tiny`."""
    folder = tmp_path_factory.mktemp("life") / "models"
    shutil.copytree(tiny_models / "tiny", folder / "tiny")
    return folder


@pytest.fixture(scope="module")
def server(models: Path, tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = (f"security.tokens={tokens}", "release.poll_seconds=0.1", "release.canary_fraction=0.5")
    started = Server(models, tmp_path_factory.mktemp("life-log") / "log", *settings, headers=USER)
    yield started
    assert started.stop() == 0


class Load:
    """Clients that ask without a pause, and note every version and failure."""

    def __init__(self, server: Server, clients: int = 2) -> None:
        self.versions: list[int] = []
        self.failures: list[Any] = []
        self._server, self._ended = server, threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._server.rest, headers=USER, timeout=30) as client:
            while not self._ended.is_set():
                answer = client.post("/recommend", json=ASKED)
                if answer.status_code == 200:
                    self.versions.append(answer.json()["version"])
                else:
                    self.failures.append((answer.status_code, answer.text))


def plan(server: Server) -> tuple[int | None, int | None]:
    [model] = [model for model in server.http.get("/models").json()["models"] if model["name"] == "tiny"]
    return model["stable"], model["canary"]


def test_a_version_goes_through_trial_promotion_and_rollback_without_a_failed_request(
    server: Server, models: Path
) -> None:
    with Load(server) as load:
        publish(models / "tiny", 2)
        server.wait_for(2, "AVAILABLE")
        assert plan(server) == (1, 2)
        on_trial = len(load.versions)
        until = time.monotonic() + 60
        while len(load.versions) < on_trial + 100:
            assert time.monotonic() < until
            time.sleep(0.05)
        # Of 100 requests as likely answered by either: outside of these bounds once in a hundred million times.
        assert 20 < load.versions[on_trial:][:100].count(2) < 80
        labelled = [
            server.http.post("/recommend", json=ASKED | {"label": label}).json()["version"]
            for label in ("stable", "canary")
        ]
        assert labelled == [1, 2]

        assert server.http.post("/admin/models/tiny/promote", headers=ADMIN).json() == {"stable": 2, "canary": None}
        server.wait_for(1, "END")
        answer = server.http.post("/recommend", json=ASKED | {"version": 1})
        assert (answer.status_code, answer.json()) == (
            404,
            {"error": "Servable not found for request: Specific(tiny, 1)"},
        )

        publish(models / "tiny", 3)
        server.wait_for(3, "AVAILABLE")
        until = time.monotonic() + 60
        while 3 not in load.versions:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert plan(server) == (2, 3)
        assert server.http.post("/admin/models/tiny/rollback", headers=ADMIN).json() == {"stable": 2, "canary": None}
        server.wait_for(3, "END")
        assert server.http.post("/admin/models/tiny/rollback", headers=ADMIN).json() == {"stable": 1, "canary": None}
    assert load.failures == []
    assert set(load.versions) == {1, 2, 3}
    assert json.loads((models / "tiny" / "serving.json").read_text()) == {"promoted": 2, "withdrawn": [3, 2]}


def test_a_broken_version_is_refused_and_the_old_one_stays(server: Server, models: Path) -> None:
    with Load(server) as load:
        broken = models / "tiny" / ".4.partial-test"
        shutil.copytree(models / "tiny" / "1", broken)
        sign(broken, "tiny", 4)
        (broken / "assets" / "items.txt").write_text("changed")
        broken.rename(models / "tiny" / "4")
        server.wait_for(4, "END")
        status = server.http.get("/v1/models/tiny/versions/4").json()["model_version_status"][0]["status"]
        assert status == {
            "error_code": "FAILED_PRECONDITION",
            "error_message": "tiny/4 is damaged: assets/items.txt is not the file that was exported; export it again",
        }
        assert plan(server) == (1, None)
        mended = models / "tiny" / ".4.mended"
        shutil.copytree(models / "tiny" / "1", mended)
        sign(mended, "tiny", 4)
        # At once: a version that is gone for a while and comes again is a new one.
        (models / "tiny" / "4").rename(models / "tiny" / ".4.broken")
        mended.rename(models / "tiny" / "4")
        time.sleep(0.5)
        assert server.statuses()["4"] == "END"  # what was refused is not tried again by itself
        assert server.http.post("/admin/reload", headers=ADMIN).json()["models"]["tiny"] == {"stable": 1, "canary": 4}
        server.http.post("/admin/models/tiny/rollback", headers=ADMIN)
    assert load.failures == []


def test_a_model_whose_process_is_killed_is_started_again(server: Server) -> None:
    until = time.monotonic() + 20
    while len(pids := workers(server)) > 1:  # what was rolled back is on its way out
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(pids[0], signal.SIGKILL)
    while (answer := server.http.post("/recommend", json=ASKED)).status_code != 200:
        assert (answer.status_code, time.monotonic() < until) == (503, True), answer.text
        time.sleep(0.02)
    assert server.statuses()["1"] == "AVAILABLE"
    assert len(server.events("the process of a model has ended")) == 1


def test_a_new_model_is_taken_up_and_a_request_must_then_say_which_is_meant(server: Server, models: Path) -> None:
    shutil.copytree(models / "tiny" / "1", models / "other" / "1.partial")
    sign(models / "other" / "1.partial", "other", 1)
    (models / "other" / "1.partial").rename(models / "other" / "1")
    server.wait_for(1, "AVAILABLE", "other")
    answer = server.http.post("/recommend", json={"user_id": "u3"})
    assert (answer.status_code, answer.json()) == (400, {"error": "model is missing: expected one of other, tiny"})
    assert server.http.post("/similar", json={"model": "other", "item_id": "i3"}).json()["model"] == "other"


@pytest.mark.parametrize(
    ("path", "authorization", "status", "message"),
    [
        ("/admin/reload", "", 401, "expected a known token: Authorization: Bearer <token>"),
        ("/admin/reload", "Bearer wrong", 401, "expected a known token: Authorization: Bearer <token>"),
        ("/admin/reload", "Basic the-admin-token", 401, "expected a known token: Authorization: Bearer <token>"),
        ("/admin/reload", "Bearer the-token", 403, "the token does not have the admin scope"),
        ("/admin/models/none/rollback", "Bearer the-admin-token", 404, "Servable not found for request: Latest(none)"),
        (
            "/admin/models/other/rollback",
            "Bearer the-admin-token",
            400,
            "other cannot be rolled back: expected an older version to serve, it has 1",
        ),
        ("/recommend", "Bearer \xfc", 401, "expected a known token: Authorization: Bearer <token>"),
        ("/v1/models/tiny:predict", "", 401, "expected a known token: Authorization: Bearer <token>"),
        ("/v2/models/tiny/infer", "", 401, "expected a known token: Authorization: Bearer <token>"),
    ],
)
def test_a_token_must_have_the_scope(server: Server, path: str, authorization: str, status: int, message: str) -> None:
    headers = {"authorization": authorization.encode("latin-1")}
    answer = server.http.post(path, json={}, headers=headers)
    assert (answer.status_code, answer.json()) == (status, {"error": message})


def test_health_and_the_page_need_no_token(server: Server) -> None:
    with httpx.Client(base_url=server.rest) as anonymous:
        paths = ("/", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json")
        assert [anonymous.get(path).status_code for path in paths] == [200] * len(paths)
        assert [anonymous.get(path).status_code for path in ("/metrics", "/models", "/items?query=a")] == [401] * 3


def test_a_decision_that_cannot_be_written_is_refused_without_a_path(server: Server, models: Path) -> None:
    before = plan(server)
    partial = models / "tiny" / ".serving.json.partial"
    partial.mkdir()  # where it is written first
    try:
        answer = server.http.post("/admin/models/tiny/promote", headers=ADMIN)
    finally:
        partial.rmdir()
    reason = "tiny: the decision cannot be written (Is a directory); expected a folder that takes files"
    assert (answer.status_code, answer.json()) == (400, {"error": reason})
    assert plan(server) == before


def test_a_websocket_is_a_request_like_any_other(server: Server) -> None:
    upgrade = {
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-version": "13",
    }
    with httpx.Client(base_url=server.rest, headers=upgrade) as anonymous:
        answers = [anonymous.get(path) for path in ("/models", "/healthz", "/models")]
    refusal = {"error": "expected a known token: Authorization: Bearer <token>"}
    assert [(answer.status_code, answer.json()) for answer in answers] == [
        (401, refusal),
        (200, {"status": "ok"}),
        (401, refusal),
    ]


def test_grpc_takes_the_same_tokens_and_reloads_for_an_admin(server: Server, models: Path) -> None:
    request = model_management_pb2.ReloadConfigRequest()
    config = request.config.model_config_list.config.add(name="tiny", model_platform="tensorflow")
    with grpc.insecure_channel(server.grpc) as channel:
        reload = model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest

        def outcome(token: str) -> str:
            try:
                reload(request, timeout=20, metadata=(("authorization", f"Bearer {token}"),))
            except grpc.RpcError as error:
                return error.code().name
            return "OK"

        assert [outcome(token) for token in ("wrong", "the-token", "the-admin-token")] == [
            "UNAUTHENTICATED",
            "PERMISSION_DENIED",
            "OK",
        ]
        config.base_path = str(models / "tiny")
        assert outcome("the-admin-token") == "OK"
        for change in ({"base_path": "/etc"}, {"name": "unknown"}, {"model_platform": "other"}):
            request.config.model_config_list.config[0].CopyFrom(
                type(config)(**({"name": "tiny", "model_platform": "tensorflow"} | change))
            )
            assert outcome("the-admin-token") == "INVALID_ARGUMENT"


def test_a_request_under_way_is_answered_before_the_server_ends(models: Path, tmp_path: Path) -> None:
    started = Server(models, tmp_path / "log", "batching.batch_timeout_micros=1500000", "batching.max_batch_size=2")
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(httpx.post(f"{started.rest}/recommend", json=ASKED, timeout=30))

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.7)  # by now the request waits for its call to fill up
    [pid, *_] = workers(started)
    code = started.stop()
    asking.join()
    assert (code, [answer.status_code for answer in answers]) == (0, [200])
    assert started.log()[-1]["message"] == "ended"
    assert not Path(f"/proc/{pid}").exists()


def test_a_process_that_hangs_is_replaced(tiny_models: Path, tmp_path: Path) -> None:
    settings = ("release.poll_seconds=0.1", "batching.deadline_seconds=0.5", "batching.hang_seconds=2")
    started = Server(tiny_models, tmp_path / "log", *settings)
    [hanging] = workers(started)
    os.kill(hanging, signal.SIGSTOP)
    stopped = time.monotonic()
    outcomes = []
    while (answer := started.http.post("/recommend", json=ASKED)).status_code != 200:
        outcomes.append(answer.status_code)
        assert time.monotonic() < stopped + 60, answer.text
        time.sleep(0.02)
    assert outcomes[0] == 504
    assert time.monotonic() > stopped + 2
    assert len(started.events("a model's process hangs and is killed")) == 1
    # Of a process that nobody asks, silence is no sign.
    [new] = workers(started)
    assert new != hanging
    time.sleep(2.5)
    assert workers(started) == [new]
    assert started.stop() == 0


def test_rest_and_grpc_end_together_and_health_says_so_first(tiny_models: Path, tmp_path: Path) -> None:
    settings = ("batching.batch_timeout_micros=3000000", "batching.max_batch_size=2", "network.shutdown_seconds=8")
    started = Server(tiny_models, tmp_path / "log", *settings)
    started.http.close()
    under_way: list[tuple[int, float]] = []

    def ask() -> None:
        answer = httpx.post(f"{started.rest}/recommend", json=ASKED, timeout=30)
        under_way.append((answer.status_code, time.monotonic()))

    with grpc.insecure_channel(started.grpc) as channel:
        health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=30)
        assert next(health).status == health_pb2.HealthCheckResponse.SERVING
        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(0.5)  # by now the request waits for its call to fill up
        started.process.send_signal(signal.SIGTERM)
        assert next(health).status == health_pb2.HealthCheckResponse.NOT_SERVING
        told = time.monotonic()
        time.sleep(0.2)
        status = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus
        with pytest.raises(grpc.RpcError) as error:
            status(get_model_status_pb2.GetModelStatusRequest(model_spec=ModelSpec(name="tiny")), timeout=30)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        refused = time.monotonic()
        asking.join()
        [(code, answered)] = under_way
        assert code == 200
        assert told < refused < answered
        health.cancel()
    assert started.process.wait(30) == 0


def workers(server: Server) -> list[int]:
    """The processes that hold models: the grandchildren of the server."""
    return [child for parent in children(server.process.pid) for child in children(parent)]
