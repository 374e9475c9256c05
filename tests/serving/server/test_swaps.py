"""Twenty hot swaps and three rollbacks under constant load; `make test-slow` prints the figures."""

import json
import os
import shutil
import statistics
import threading
import time
from pathlib import Path

import httpx
import pytest
from running_server import Server, children, publish

from serving.server.release import roll_back

_SWAPS, _ROLLBACKS, _CLIENTS = 20, 3, 4
_STEADY_SECONDS = 10.0
_MOST_SLOWDOWN = 3.0
_BODY = json.dumps({"user_id": "u3", "k": 10}).encode()


def memory(pid: int) -> int:
    """Bytes that a process and its children hold, what they share counted in each."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(map(memory, children(pid)))


def p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[-1]


@pytest.mark.slow
def test_no_request_fails_or_waits_long_and_memory_is_bounded(tiny_models: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(tiny_models / "tiny", models / "tiny")
    server = Server(models, tmp_path / "log", "release.poll_seconds=0.2")
    outcomes: list[tuple[float, float, int]] = []
    ended = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=server.rest, timeout=30) as client:
            while not ended.is_set():
                started = time.monotonic()
                status = client.post("/recommend", content=_BODY).status_code
                outcomes.append((started, time.monotonic() - started, status))

    clients = [threading.Thread(target=ask) for _ in range(_CLIENTS)]
    for client in clients:
        client.start()
    begun = time.monotonic()
    time.sleep(_STEADY_SECONDS)
    windows, sizes = [], []
    for version in range(2, 2 + _SWAPS):
        started = time.monotonic()
        publish(models / "tiny", version)
        server.wait_for(version - 1, "END")
        windows.append((started, time.monotonic()))
        sizes.append(memory(server.process.pid))
    for version in range(1 + _SWAPS, 1 + _SWAPS - _ROLLBACKS, -1):
        started = time.monotonic()
        assert roll_back(models / "tiny") == (version, version - 1)
        server.wait_for(version, "END")
        windows.append((started, time.monotonic()))
    ended.set()
    for client in clients:
        client.join()
    steady = [seconds for started, seconds, _ in outcomes if started < begun + _STEADY_SECONDS]
    swapping = [seconds for started, seconds, _ in outcomes if any(a <= started <= b for a, b in windows)]
    print(
        f"\n{len(outcomes):,} requests, {sum(status != 200 for _, _, status in outcomes)} failed; p99 steady "
        f"{p99(steady) * 1e3:.1f} ms, in swap windows {p99(swapping) * 1e3:.1f} ms; memory after swap 1, 10, 20: "
        f"{sizes[0] >> 20}, {sizes[9] >> 20}, {sizes[-1] >> 20} MB"
    )
    assert {status for _, _, status in outcomes} == {200}
    assert p99(swapping) < _MOST_SLOWDOWN * p99(steady)
    assert sizes[-1] < 1.1 * sizes[0]
    assert server.stop() == 0
