"""Requests that share calls, against a model that is a function in this process."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from serving.server.batching import Batcher
from serving.server.messages import Answer, Ask, Failed, string_rows, strings
from serving.server.settings import BatchingConfig
from serving.server.signatures import Signature, Spec
from serving.server.status import Code, ServingError

ECHO = Signature(
    "echo",
    {"user_id": Spec("string", (None,)), "history": Spec("string", (None, None)), "k": Spec("int32", ())},
    {"said": Spec("string", (None,))},
)


class Model:
    """Answers each row with its user, the strings of its history and k; tells which rows came together."""

    def __init__(self, seconds: float = 0.02) -> None:
        self.calls: list[list[str]] = []
        self.request_ids: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._seconds = seconds

    async def __call__(self, ask: Ask) -> Answer | Failed:
        users = [user.decode() for user in ask.inputs["user_id"]]
        self.calls.append(users)
        self.request_ids.append(ask.request_id)
        await asyncio.sleep(self._seconds)
        await self.gate.wait()
        if "poison" in users:
            return Failed("the model cannot answer these inputs", Code.INVALID_ARGUMENT)
        said = [
            f"{user}:{b','.join(items).decode()}:{ask.inputs['k']}".encode()
            for user, items in zip(users, ask.inputs["history"].tolist(), strict=True)
        ]
        return Answer({"said": strings(said)})


def ask(*users: str, history: str = "", k: int = 1) -> Ask:
    """A request whose id is its first user."""
    rows = [history.encode().split(b",") if history else [] for _ in users]
    return Ask(
        "echo",
        {"user_id": strings([user.encode() for user in users]), "history": string_rows(rows), "k": np.int32(k)[...]},
        request_id=users[0],
    )


def run(
    test: Callable[[Model, Callable[..., Awaitable[Any]], list[int]], Awaitable[None]],
    seconds: float = 0.02,
    **config: float,
) -> None:
    async def main() -> None:
        model, sizes = Model(seconds), list[int]()
        batcher = Batcher(model, BatchingConfig.model_validate(config), sizes.append)

        async def send(request: Ask, deadline: float = 5.0) -> list[str]:
            rows = len(request.inputs["user_id"])
            answer = await batcher.run(ECHO, request, rows, deadline)
            return [said.decode() for said in answer.outputs["said"]]

        await test(model, send, sizes)

    asyncio.run(main())


def refusal(outcome: Any) -> tuple[Code, str]:
    assert isinstance(outcome, ServingError)
    return outcome.code, str(outcome)


def test_what_waits_while_a_call_runs_shares_the_next_one_and_gets_its_own_answer() -> None:
    async def test(model: Model, send: Any, sizes: list[int]) -> None:
        histories = ["", "a", "a,b", "c"] * 4
        requests = [ask(f"u{n}", f"v{n}", history=history) for n, history in enumerate(histories)]
        answers = await asyncio.gather(*map(send, requests))
        for n, (history, answer) in enumerate(zip(histories, answers, strict=True)):
            # Histories are padded by empty strings to the longest of the call.
            assert [said.rstrip(",:1") for said in answer] == [f"{u}{n}:{history}".rstrip(":") for u in "uv"]
        assert len(model.calls) < 6
        assert sum(sizes) == 32
        assert [len(call) for call in model.calls] == sizes

    run(test)


def test_a_call_has_at_most_max_batch_size_rows_and_a_larger_request_a_call_of_its_own() -> None:
    async def test(model: Model, send: Any, sizes: list[int]) -> None:
        many = [f"m{n}" for n in range(9)]
        requests = [ask("a"), ask("b"), ask(*many), *(ask(f"u{n}") for n in range(8))]
        answers = await asyncio.gather(*map(send, requests))
        assert [len(answer) for answer in answers] == [1, 1, 9] + [1] * 8
        assert max(size for size in sizes if size != 9) == 4
        assert many in model.calls

    run(test, max_batch_size=4)


def test_a_batch_size_of_one_gives_every_request_a_call_of_its_own() -> None:
    async def test(model: Model, send: Any, sizes: list[int]) -> None:
        await asyncio.gather(*(send(ask(f"u{n}")) for n in range(6)))
        assert sizes == [1] * 6

    run(test, max_batch_size=1)


def test_requests_with_another_k_do_not_share_a_call() -> None:
    async def test(model: Model, send: Any, sizes: list[int]) -> None:
        answers = await asyncio.gather(*(send(ask(f"u{n}", k=1 + n % 2)) for n in range(8)))
        assert [said for [said] in answers] == [f"u{n}::{1 + n % 2}" for n in range(8)]
        assert all(len({int(user[1:]) % 2 for user in call}) == 1 for call in model.calls)

    run(test)


def test_a_full_queue_refuses_at_once() -> None:
    async def test(model: Model, send: Any, sizes: list[int]) -> None:
        model.gate.clear()
        waiting = [asyncio.create_task(send(ask(f"u{n}"))) for n in range(3 + 6)]
        await asyncio.sleep(0.01)
        started = time.perf_counter()
        [outcome] = await asyncio.gather(send(ask("late")), return_exceptions=True)
        assert time.perf_counter() - started < 0.1
        assert refusal(outcome) == (Code.UNAVAILABLE, "the queue is full: try again later")
        model.gate.set()
        assert len(await asyncio.gather(*waiting)) == 9
        assert await send(ask("later")) == ["later::1"]

    # A call of one row is under way and one of two waits in the model's socket; three batches of two rows wait here.
    run(test, max_batch_size=2, max_enqueued_batches=3)


def test_a_request_that_is_not_answered_in_time_is_told_so_and_is_not_computed_any_more() -> None:
    async def test(model: Model, send: Any, sizes: list[int]) -> None:
        model.gate.clear()
        tasks = [asyncio.create_task(send(ask(f"u{n}"), deadline=0.05)) for n in range(4)]
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        expected = (Code.DEADLINE_EXCEEDED, "there was no answer within the deadline")
        assert [refusal(outcome) for outcome in outcomes] == [expected] * 4
        model.gate.set()
        assert await send(ask("later")) == ["later::1"]
        assert model.calls[-1] == ["later"]
        assert "u3" not in [user for call in model.calls[2:] for user in call]

    run(test)


def test_who_does_not_wait_any_longer_makes_room_for_others() -> None:
    async def test(model: Model, send: Any, sizes: list[int]) -> None:
        model.gate.clear()
        under_way = [asyncio.create_task(send(ask(f"u{n}"))) for n in range(3)]
        await asyncio.sleep(0.01)
        late = [asyncio.create_task(send(ask(f"late{n}"), deadline=0.05)) for n in range(3)]
        gone = [asyncio.create_task(send(ask(f"gone{n}"))) for n in range(3)]
        await asyncio.sleep(0.01)
        [refused] = await asyncio.gather(send(ask("more")), return_exceptions=True)
        assert refusal(refused)[0] is Code.UNAVAILABLE
        for task in gone:
            task.cancel()
        await asyncio.gather(*late, *gone, return_exceptions=True)
        others = [asyncio.create_task(send(ask(f"other{n}"))) for n in range(6)]
        await asyncio.sleep(0.01)
        model.gate.set()
        assert len(await asyncio.gather(*under_way, *others)) == 9
        assert {user[:4] for call in model.calls for user in call} == {"u0", "u1", "u2", "othe"}

    # A call of one row is under way and one of two waits in the model's socket; three batches of two rows wait here.
    run(test, max_batch_size=2, max_enqueued_batches=3)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_deadline_that_has_passed_is_not_waited_for(seconds: float) -> None:
    async def test(model: Model, send: Any, sizes: list[int]) -> None:
        [outcome] = await asyncio.gather(send(ask("late"), deadline=seconds), return_exceptions=True)
        assert refusal(outcome)[0] is Code.DEADLINE_EXCEEDED
        assert model.calls == []

    run(test)


def test_one_request_that_the_model_refuses_does_not_harm_those_that_share_its_call() -> None:
    async def test(model: Model, send: Any, sizes: list[int]) -> None:
        users = ["a", "b", "c", "poison", "d"]
        outcomes = await asyncio.gather(*(send(ask(user)) for user in users), return_exceptions=True)
        assert refusal(outcomes.pop(3)) == (Code.INVALID_ARGUMENT, "the model cannot answer these inputs")
        assert outcomes == [["a::1"], ["b::1"], ["c::1"], ["d::1"]]

    run(test)


def test_a_refused_call_is_not_repeated_for_those_who_do_not_wait_any_longer() -> None:
    async def test(model: Model, send: Any, sizes: list[int]) -> None:
        model.gate.clear()
        late = [asyncio.create_task(send(ask(user), deadline=0.05)) for user in ("late0", "late1")]
        others = [asyncio.create_task(send(ask(user))) for user in ("poison", "gone", "here")]
        await asyncio.gather(*late, return_exceptions=True)
        others[1].cancel()
        await asyncio.sleep(0)
        model.gate.set()
        outcomes = await asyncio.gather(*others, return_exceptions=True)
        assert refusal(outcomes[0])[0] is Code.INVALID_ARGUMENT
        assert outcomes[2] == ["here::1"]
        assert model.calls == [["late0", "late1", "poison", "gone", "here"], ["poison"], ["here"]]
        assert model.request_ids == ["late0,late1,poison,gone,here", "poison", "here"]

    run(test, max_batch_size=5, batch_timeout_micros=5_000_000)


@pytest.mark.parametrize(("micros", "expected"), [(0, [1, 1, 1]), (100_000, [3])])
def test_an_idle_model_waits_the_batch_timeout_for_a_call_to_fill(micros: int, expected: list[int]) -> None:
    async def test(model: Model, send: Any, sizes: list[int]) -> None:
        tasks = []
        for n in range(3):
            tasks.append(asyncio.create_task(send(ask(f"u{n}"))))
            await asyncio.sleep(0.01)
        await asyncio.gather(*tasks)
        assert sizes == expected

    run(test, seconds=0.001, batch_timeout_micros=micros)


def test_a_full_call_does_not_wait_for_the_batch_timeout() -> None:
    async def test(model: Model, send: Any, sizes: list[int]) -> None:
        started = time.perf_counter()
        await asyncio.gather(*(send(ask(f"u{n}")) for n in range(4)))
        assert time.perf_counter() - started < 1
        assert sizes == [4]

    run(test, max_batch_size=4, batch_timeout_micros=5_000_000)


def test_a_client_that_goes_away_leaves_the_others_their_answers() -> None:
    async def test(model: Model, send: Any, sizes: list[int]) -> None:
        tasks = [asyncio.create_task(send(ask(f"u{n}"))) for n in range(5)]
        await asyncio.sleep(0)
        tasks[2].cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(outcomes[2], asyncio.CancelledError)
        assert [outcomes[n] for n in (0, 1, 3, 4)] == [[f"u{n}::1"] for n in (0, 1, 3, 4)]

    run(test)


def test_a_signature_whose_answers_cannot_be_taken_apart_gets_calls_of_its_own() -> None:
    total = Signature("echo", ECHO.inputs, {"said": Spec("string", ())})
    assert ECHO.can_share_calls
    assert not total.can_share_calls

    async def main() -> None:
        model, sizes = Model(), list[int]()
        batcher = Batcher(model, BatchingConfig(), sizes.append)
        await asyncio.gather(*(batcher.run(total, ask(f"u{n}"), 1, 5.0) for n in range(4)))
        assert sizes == [1] * 4

    asyncio.run(main())
