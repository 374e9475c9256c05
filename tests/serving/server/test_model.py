"""The versions of a model in processes of their own: loading, switching, draining."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import tensorflow as tf
from running_server import children, publish
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog, PredictLog

from serving.server.metrics import Metrics
from serving.server.model import Model
from serving.server.settings import ServerConfig
from serving.server.status import ServingError

WARM_UP_REQUESTS = "assets.extra/tf_serving_warmup_requests"
_SECONDS = 150.0  # of machines that do much else


@pytest.fixture
def path(tiny_models: Path, tmp_path: Path) -> Path:
    """The folder of the model `tiny`, with version 1."""
    shutil.copytree(tiny_models / "tiny" / "1", tmp_path / "tiny" / "1")
    return tmp_path / "tiny"


def run(path: Path, test: Callable[[Model], Awaitable[None]]) -> None:
    async def main() -> None:
        model = Model(path, ServerConfig(), Metrics())
        try:
            async with asyncio.timeout(_SECONDS):
                await test(model)
        finally:
            await model.unload()

    asyncio.run(main())


def states(model: Model) -> dict[int, str]:
    return {version: status.state for version, status in model.statuses.items()}


async def until_it_is(model: Model, expected: dict[int, str]) -> None:
    while states(model) != expected:
        await asyncio.sleep(0.001)


@pytest.mark.slow
def test_the_old_version_serves_until_the_new_one_is_loaded_and_ends_with_its_last_request(path: Path) -> None:
    async def test(model: Model) -> None:
        assert not model.is_ready
        looking = asyncio.create_task(model.refresh(False))
        await until_it_is(model, {1: "LOADING"})
        await looking
        assert (states(model), model.plan.stable, model.is_ready) == ({1: "AVAILABLE"}, 1, True)

        publish(path, 2)
        looking = asyncio.create_task(model.refresh(False))
        await until_it_is(model, {1: "AVAILABLE", 2: "LOADING"})
        assert model.find(None, None).version == 1
        with model.find(None, None).in_use() as used:
            await looking
            # The latest version only, as TensorFlow Serving does by default.
            assert model.find(None, None).version == 2
            with pytest.raises(ServingError, match=r"^Servable not found for request: Specific\(tiny, 1\)$"):
                model.find(1, None)
            await until_it_is(model, {1: "UNLOADING", 2: "AVAILABLE"})
            assert used.is_alive
        await until_it_is(model, {1: "END", 2: "AVAILABLE"})
        assert not used.is_alive

    run(path, test)


@pytest.mark.slow
def test_a_version_whose_warm_up_fails_is_refused_and_one_without_requests_is_not(path: Path) -> None:
    def break_warm_up(bundle: Path) -> None:
        with tf.io.TFRecordWriter(str(bundle / WARM_UP_REQUESTS)) as writer:
            writer.write(PredictionLog(predict_log=PredictLog()).SerializeToString())

    def have_none(bundle: Path) -> None:
        (bundle / WARM_UP_REQUESTS).unlink()

    async def test(model: Model) -> None:
        await model.refresh(False)
        publish(path, 2, break_warm_up)
        await model.refresh(False)
        assert model.find(None, None).version == 1
        expected = f"tiny/2/{WARM_UP_REQUESTS}: warm-up request 1 fails (TypeError); export it again"
        assert (model.statuses[2].state, model.statuses[2].error) == ("END", expected)
        publish(path, 3, have_none)
        await model.refresh(False)
        assert model.find(None, None).version == 3

    run(path, test)


def test_a_model_whose_process_has_ended_is_not_ready_until_it_is_loaded_again(path: Path) -> None:
    async def test(model: Model) -> None:
        await model.refresh(False)
        [pid] = workers()
        os.kill(pid, signal.SIGKILL)
        while model.is_ready:
            await asyncio.sleep(0.001)
        with pytest.raises(ServingError) as error:
            model.find(None, None)
        assert error.value.code.http_status == 503
        await model.refresh(False)
        assert model.is_ready

    run(path, test)


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_loads_is_started_again_after_a_pause_that_doubles(path: Path) -> None:
    async def test(model: Model) -> None:
        await model.refresh(False)
        await kill(model)
        for pause in (1, 2):
            failed = await kill_while_it_loads(model)
            reason = "tiny/1: its process ended while it was loading; it is tried again"
            assert (model.statuses[1].state, model.statuses[1].error) == ("END", reason)
            with pytest.raises(ServingError) as error:
                model.find(None, None)
            assert (error.value.code.http_status, str(error.value)) == (503, reason)
            while time.monotonic() < failed + 0.8 * pause:
                await model.refresh(False)
                assert workers() == []
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3 * pause)
        await model.refresh(False)
        assert (model.is_ready, model.statuses[1].state, model.statuses[1].error) == (True, "AVAILABLE", "")

    run(path, test)


async def kill(model: Model) -> None:
    """Ends the process that answers."""
    for worker in workers():
        os.kill(worker, signal.SIGKILL)
    while model.is_ready or workers():
        await asyncio.sleep(0.001)


async def kill_while_it_loads(model: Model) -> float:
    """Returns when it failed."""
    looking = asyncio.create_task(model.refresh(False))
    while not (pids := workers()):
        assert not looking.done()
        await asyncio.sleep(0.001)
    os.kill(pids[0], signal.SIGKILL)
    await looking
    return time.monotonic()


@pytest.mark.slow
def test_a_dead_version_that_is_damaged_by_now_gives_way_to_the_one_before_it_and_says_why(path: Path) -> None:
    async def test(model: Model) -> None:
        await model.refresh(False)
        publish(path, 2)
        await model.refresh(False)
        await until_it_is(model, {1: "END", 2: "AVAILABLE"})
        (path / "2" / "saved_model.pb").unlink()
        await kill(model)
        await model.refresh(False)
        assert (model.find(None, None).version, model.is_ready) == (1, True)
        reason = "tiny/2 is damaged: saved_model.pb is missing; export it again"
        await until_it_is(model, {1: "AVAILABLE", 2: "END"})
        assert model.statuses[2].error == reason
        (path / "1" / "saved_model.pb").unlink()
        await kill(model)
        await model.refresh(False)
        with pytest.raises(ServingError) as error:
            model.find(None, None)
        assert str(error.value) == "tiny/1 is damaged: saved_model.pb is missing; export it again"
        assert workers() == []

    run(path, test)


def test_a_server_that_ends_while_a_version_loads_does_not_wait_for_it(path: Path) -> None:
    async def test(model: Model) -> None:
        looking = asyncio.create_task(model.refresh(False))
        while not (pids := workers()):
            await asyncio.sleep(0.001)
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking
        while Path(f"/proc/{pids[0]}").exists():
            await asyncio.sleep(0.001)

    run(path, test)


def workers() -> list[int]:
    """The processes that hold models: children of the fork server, which is a child of this one."""
    forks = [child for child in children(os.getpid()) if b"forkserver" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return [worker for fork in forks for worker in children(fork)]
