"""Requests that wait at the same time share one call of the graph."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from serving.server.messages import Answer, Ask, Failed, Tensors
from serving.server.settings import BatchingConfig
from serving.server.signatures import Signature
from serving.server.status import Code, ServingError, too_late

_Key = tuple[Any, ...]
Call = Callable[[Ask], Awaitable[Answer | Failed]]


@dataclass(slots=True, eq=False)
class _Waiting:
    ask: Ask
    rows: int
    key: _Key
    answer: "asyncio.Future[Answer]"
    is_queued: bool = True


class Batcher:
    """Puts requests together for one model. At most so many rows wait; what comes on top is refused at once."""

    def __init__(self, call: Call, config: BatchingConfig, on_call: Callable[[int], None]) -> None:
        """Takes the function that asks the model, and one that is told each call's rows."""
        self._call, self._config, self._on_call = call, config, on_call
        self._queue: deque[_Waiting] = deque()
        self._queued_rows = 0
        self._calls: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, signature: Signature, ask: Ask, rows: int, seconds: float) -> Answer:
        """Answers a request whose inputs fit the signature.

        Args:
          signature: what is called.
          ask: the request.
          rows: its batch.
          seconds: how long it may take.

        Raises:
          ServingError: UNAVAILABLE when too much is waiting, DEADLINE_EXCEEDED when there is no answer in time, or as
            the model fails.
        """
        if seconds <= 0:
            raise too_late()
        if self._queued_rows and self._queued_rows + rows > self._capacity:
            raise ServingError(Code.UNAVAILABLE, "the queue is full: try again later")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(ask, rows, _key(signature, ask), loop.create_future())
        self._queue.append(waiting)
        self._queued_rows += rows
        self._begin_when_full_or_due(loop)
        timer = loop.call_later(seconds, _expire, waiting.answer)
        try:
            return await waiting.answer
        finally:
            timer.cancel()
            if waiting.is_queued:  # its client has gone, or its time is over
                self._queue.remove(waiting)
                self._queued_rows -= rows

    @property
    def _capacity(self) -> int:
        return self._config.max_batch_size * self._config.max_enqueued_batches

    @property
    def _may_call(self) -> bool:
        """One call at a time, so that requests gather meanwhile; a full one may already wait in the model's socket."""
        return not self._calls or (len(self._calls) == 1 and self._queued_rows >= self._config.max_batch_size)

    def _begin_when_full_or_due(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._config.batch_timeout_micros and not self._calls and self._queued_rows < self._config.max_batch_size:
            if self._timer is None:
                self._timer = loop.call_later(self._config.batch_timeout_micros / 1e6, self._begin)
        else:
            self._begin()

    def _begin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._may_call and (batch := self._take()):
            task = asyncio.create_task(self._answer(batch))
            self._calls.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._calls.discard(task)
        self._begin()

    def _take(self) -> list[_Waiting]:
        """The oldest request and those behind it that can share its call; nobody waits for what has expired."""
        batch: list[_Waiting] = []
        rows, others = 0, deque[_Waiting]()
        while self._queue and rows < self._config.max_batch_size:
            waiting = self._queue.popleft()
            fits = not batch or (waiting.key == batch[0].key and rows + waiting.rows <= self._config.max_batch_size)
            if waiting.answer.done() or not fits:  # what is over leaves the queue in `run`
                others.append(waiting)
            else:
                waiting.is_queued = False
                batch.append(waiting)
                rows += waiting.rows
        self._queue.extendleft(reversed(others))
        self._queued_rows -= rows
        return batch

    async def _answer(self, batch: list[_Waiting]) -> None:
        self._on_call(sum(waiting.rows for waiting in batch))
        try:
            reply = await self._call(_together(batch))
        except ServingError as error:
            for waiting in batch:
                _fail(waiting.answer, error)
            return
        if isinstance(reply, Answer):
            for waiting, answer in zip(batch, _apart(reply, batch), strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(answer)
        elif len(batch) == 1:
            _fail(batch[0].answer, ServingError(reply.code, reply.reason))
        else:
            # One request's fault must not be the others'.
            for waiting in batch:
                if not waiting.answer.done():
                    await self._answer([waiting])


def _key(signature: Signature, ask: Ask) -> _Key:
    """Requests with equal keys can share a call: scalars and widths must agree, widths of strings are padded."""
    if not signature.can_share_calls:
        return (object(),)
    parts: list[Any] = [ask.signature, ask.shown]
    for name, spec in signature.inputs.items():
        value = ask.inputs[name]
        if not spec.shape:
            parts.append(value.item())
        elif value.dtype != object or value.ndim > 2:
            parts.append(value.shape[1:])
    return tuple(parts)


def _together(batch: list[_Waiting]) -> Ask:
    first = batch[0].ask
    if len(batch) == 1:
        return first
    inputs = {name: _stacked([waiting.ask.inputs[name] for waiting in batch]) for name in first.inputs}
    return replace(first, inputs=inputs, request_id=",".join(waiting.ask.request_id for waiting in batch))


def _stacked(values: list[Any]) -> Any:
    if values[0].ndim == 0:
        return values[0]
    if values[0].ndim == 1 or len({value.shape[1:] for value in values}) == 1:
        return np.concatenate(values)
    stacked = np.full((sum(map(len, values)), max(value.shape[1] for value in values)), b"", object)
    start = 0
    for value in values:
        stacked[start : start + len(value), : value.shape[1]] = value
        start += len(value)
    return stacked


def _apart(reply: Answer, batch: list[_Waiting]) -> Iterator[Answer]:
    if len(batch) == 1:
        yield reply
        return
    start = 0
    for waiting in batch:
        rows = slice(start, start + waiting.rows)
        outputs: Tensors = {name: value[rows] for name, value in reply.outputs.items()}
        yield Answer(outputs, None if reply.shown is None else reply.shown[rows])
        start += waiting.rows


def _expire(answer: "asyncio.Future[Answer]") -> None:
    _fail(answer, too_late())


def _fail(answer: "asyncio.Future[Answer]", error: ServingError) -> None:
    if not answer.done():
        answer.set_exception(error)
