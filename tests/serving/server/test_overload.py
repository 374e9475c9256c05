"""More clients than a server can answer: refused at once, and all is well when they are gone."""

import asyncio
import statistics
import time
from pathlib import Path

import pytest
from running_server import Server

from experiments.benchmarks.http_load import Post, exchange

_CLIENTS = 100
_SECONDS = 30.0
_RECOVERED_SECONDS = 5.0
_ASKED = {"user_id": "u3", "k": 10}


async def _crowd(port: int) -> list[tuple[int, float]]:
    """Keeps ten times as many requests under way as the queue holds; returns status and seconds of each.

    On sockets: an HTTP library would be too slow to be a crowd.
    """
    request = Post(port, "/recommend", _ASKED).content
    outcomes: list[tuple[int, float]] = []
    until = time.monotonic() + _SECONDS

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < until:
            started = time.monotonic()
            status, _ = await exchange(reader, writer, request)
            outcomes.append((status, time.monotonic() - started))
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(ask() for _ in range(_CLIENTS)))
    return outcomes


def _latency(server: Server) -> float:
    seconds = []
    for _ in range(30):
        started = time.monotonic()
        assert server.http.post("/recommend", json=_ASKED).status_code == 200
        seconds.append(time.monotonic() - started)
    return statistics.median(seconds)


@pytest.mark.slow
def test_overload_is_refused_at_once_and_leaves_nothing_behind(tiny_models: Path, tmp_path: Path) -> None:
    # Two calls under way, and a queue of four batches of two.
    server = Server(tiny_models, tmp_path / "log", "batching.max_batch_size=2", "batching.max_enqueued_batches=4")
    usual = _latency(server)
    outcomes = asyncio.run(_crowd(int(server.rest.rpartition(":")[2])))
    until = time.monotonic() + _RECOVERED_SECONDS
    while _latency(server) > 2 * usual:
        assert time.monotonic() < until
    logged = [line for line in server.log() if line.get("status") == 503 and line.get("path") == "/recommend"]
    assert server.stop() == 0
    answered, refused = ([seconds for status, seconds in outcomes if status == wanted] for wanted in (200, 503))
    assert len(logged) == len(refused) == len(outcomes) - len(answered)
    assert len(refused) > len(answered)  # it was a crowd
    # Who is refused waits for the crowd's and the server's processor, not for the queue.
    assert statistics.quantiles(refused, n=100)[-1] < statistics.median(answered)
