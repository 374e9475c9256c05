"""Work on several threads, in the order of one."""

import threading
import time
from collections.abc import Iterator

import pytest

from data_prep.threads import in_threads


def test_results_stand_in_the_order_of_the_items_however_long_each_takes() -> None:
    def slow_if_even(item: int) -> int:
        time.sleep(0.01 * (item % 2 == 0))
        return item * item

    assert list(in_threads(slow_if_even, range(20))) == [item * item for item in range(20)]
    assert list(in_threads(slow_if_even, [])) == []


def test_two_run_at_once() -> None:
    meeting = threading.Barrier(2, timeout=10)
    assert sorted(in_threads(lambda _: meeting.wait(), range(2))) == [0, 1]


def test_few_items_are_made_before_their_results_are_taken() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    results = in_threads(str, items())
    assert [next(results) for _ in range(5)] == list("01234")
    assert len(made) < 10
    results.close()


def test_what_a_thread_raises_arrives_at_its_place() -> None:
    results = in_threads(lambda item: 1 // (3 - item), range(6))
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
