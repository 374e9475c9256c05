"""Requests to a server of this machine: one after another, or from many clients at once.

Written on sockets: an HTTP library costs more processor time for a request than the servers that are measured.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

_STARTING_SECONDS = 120.0
_OK = 200


@dataclass(frozen=True)
class Post:
    """A request that is sent again and again."""

    port: int
    path: str
    body: Mapping[str, Any]

    @property
    def content(self) -> bytes:
        """As it goes over the wire."""
        body = json.dumps(self.body).encode()
        head = f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def send_all(post: Post, requests: int, clients: int) -> int:
    """Sends so many requests from so many clients, each on a connection of its own, and returns how many."""

    async def client(share: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", post.port)
        for _ in range(share):
            await _answered(reader, writer, post.content)
        writer.close()

    async def main() -> None:
        await asyncio.gather(*(client(requests // clients) for _ in range(clients)))

    asyncio.run(main())
    return requests // clients * clients


def latencies(post: Post, requests: int) -> list[float]:
    """Sends requests one after another on one connection, and returns the seconds of each."""

    async def main() -> list[float]:
        reader, writer = await asyncio.open_connection("127.0.0.1", post.port)
        seconds = []
        for _ in range(requests):
            started = time.perf_counter()
            await _answered(reader, writer, post.content)
            seconds.append(time.perf_counter() - started)
        writer.close()
        return seconds

    return asyncio.run(main())


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, content: bytes) -> tuple[int, bytes]:
    """Sends a request, and returns the answer's status and body."""
    writer.write(content)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    return int(head.split(maxsplit=2)[1]), await reader.readexactly(length)


async def _answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, content: bytes) -> None:
    status, body = await exchange(reader, writer, content)
    if status != _OK:
        raise RuntimeError(f"expected an answer, received {status} {body[:200]!r}")


@contextmanager
def running(command: Sequence[str], ready_url: str) -> Iterator[None]:
    """Runs a server until the block ends; the block begins when it answers at `ready_url`.

    Raises:
      RuntimeError: it ended, or was not ready in time.
    """
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    # A group of its own: some servers leave their workers behind.
    process = subprocess.Popen(
        command, env=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        until = time.monotonic() + _STARTING_SECONDS
        while not _answers(ready_url):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{' '.join(command)} does not answer at {ready_url}: run it by hand to see why")
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    """Returns ports that nobody uses."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  our own server
            return int(answer.status) == _OK
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
