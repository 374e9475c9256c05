"""More clients than a server can answer: refused at once, and all is well when they are gone."""

import asyncio
import json
import statistics
import time
from pathlib import Path

import httpx
import pytest
from running_server import Server

_CLIENTS = 100
_SECONDS = 30.0
_REFUSED_SECONDS = 1.0  # of which the crowd, in one process, takes the most to read what it is told
_RECOVERED_SECONDS = 5.0
_BODY = json.dumps({"user_id": "u3", "k": 10}).encode()


async def _crowd(server: Server) -> list[tuple[int, float]]:
    """Keeps ten times as many requests under way as the queue holds; returns status and seconds of each."""
    outcomes: list[tuple[int, float]] = []
    until = time.monotonic() + _SECONDS
    limits = httpx.Limits(max_connections=_CLIENTS)
    async with httpx.AsyncClient(base_url=server.rest, timeout=30, limits=limits) as client:

        async def ask() -> None:
            while time.monotonic() < until:
                started = time.monotonic()
                answer = await client.post("/recommend", content=_BODY)
                outcomes.append((answer.status_code, time.monotonic() - started))

        await asyncio.gather(*(ask() for _ in range(_CLIENTS)))
    return outcomes


def _latency(server: Server) -> float:
    seconds = []
    for _ in range(30):
        started = time.monotonic()
        assert server.http.post("/recommend", content=_BODY).status_code == 200
        seconds.append(time.monotonic() - started)
    return statistics.median(seconds)


@pytest.mark.slow
def test_overload_is_refused_at_once_and_leaves_nothing_behind(tiny_models: Path, tmp_path: Path) -> None:
    # Two calls under way, and a queue of four batches of two.
    server = Server(tiny_models, tmp_path / "log", "batching.max_batch_size=2", "batching.max_enqueued_batches=4")
    usual = _latency(server)
    outcomes = asyncio.run(_crowd(server))
    statuses = [status for status, _ in outcomes]
    assert set(statuses) == {200, 503}
    assert (
        statistics.quantiles([seconds for status, seconds in outcomes if status == 503], n=100)[-1] < _REFUSED_SECONDS
    )
    until = time.monotonic() + _RECOVERED_SECONDS
    while _latency(server) > 2 * usual:
        assert time.monotonic() < until
    refused = [line for line in server.log() if line.get("status") == 503 and line.get("path") == "/recommend"]
    assert len(refused) == statuses.count(503)
    assert server.stop() == 0
