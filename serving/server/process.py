"""The server's end of a model's process."""

import asyncio
import multiprocessing
import socket
import time
from collections import deque
from pathlib import Path
from typing import Any

from recsys.errors import BundleError
from serving.server import worker
from serving.server.messages import Loaded, Refused, frame, receive
from serving.server.status import Code, ServingError

# A server of forks: it has imported TensorFlow once, and has no threads that a fork could lose.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([worker.__name__])

_END_SECONDS = 5.0


class ModelProcess:
    """Asks a process, several questions at a time; it answers them in order."""

    def __init__(self, process: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Use `start`."""
        self._process, self._reader, self._writer = process, reader, writer
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._silent_since = 0.0
        self._receiving = asyncio.create_task(self._receive())

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return not self._receiving.done()

    async def ask(self, message: object) -> Any:
        """Sends a message and returns the reply.

        Raises:
          ServingError: UNAVAILABLE, the process has ended.
        """
        if not self.is_alive:
            raise _gone()
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self._waiting:
            self._silent_since = time.monotonic()
        self._waiting.append(reply)
        self._writer.write(frame(message))
        return await reply

    def kill_if_silent(self, seconds: float) -> bool:
        """Ends a process that has been asked and answered nothing for so long; returns whether it did."""
        if not self.is_alive or not self._waiting or time.monotonic() - self._silent_since < seconds:
            return False
        self._process.kill()
        return True

    async def stop(self) -> None:
        """Closes the socket, upon which the process ends; one that hangs is killed."""
        self._writer.close()
        await asyncio.to_thread(self._process.join, _END_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            await asyncio.to_thread(self._process.join)
        self._process.close()
        await self._receiving

    async def _receive(self) -> None:
        try:
            while True:
                reply = await receive(self._reader)
                self._silent_since = time.monotonic()
                waiting = self._waiting.popleft()
                if not waiting.done():
                    waiting.set_result(reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            for waiting in self._waiting:
                if not waiting.done():
                    waiting.set_exception(_gone())


async def start(models: Path, version: int) -> tuple[ModelProcess, Loaded]:
    """Starts the process of `<models>/<version>` and waits until it is warm.

    Raises:
      BundleError: it cannot be served.
      ServingError: UNAVAILABLE, it could not be loaded this time.
    """
    ours, theirs = socket.socketpair()
    process = _processes.Process(target=worker.main, args=(theirs, models, version), daemon=True)
    reader, writer = await asyncio.open_connection(sock=ours)
    starting = asyncio.create_task(asyncio.to_thread(_start, process, theirs))
    try:
        await asyncio.shield(starting)
        first = await receive(reader)
    except (EOFError, OSError):  # it, or the server of forks, has ended
        first = Refused(f"{models.name}/{version}: its process ended while it was loading", is_final=False)
    except asyncio.CancelledError:  # the server ends
        writer.close()
        await starting
        process.kill()
        raise
    if isinstance(first, Refused):
        writer.close()
        if process.pid is not None:
            await asyncio.to_thread(process.join)
        if first.is_final:
            raise BundleError(first.reason)
        raise ServingError(Code.UNAVAILABLE, f"{first.reason}; it is tried again")
    return ModelProcess(process, reader, writer), first


def _start(process: Any, theirs: socket.socket) -> None:
    with theirs:
        process.start()


def _gone() -> ServingError:
    return ServingError(Code.UNAVAILABLE, "the model's process has ended; it is being started again")
