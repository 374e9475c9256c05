"""Work on two cores at once: Arrow and NumPy hold no lock of Python's while they compute."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
# Beside the caller's own: text is divided into columns about as fast as two threads look at the values.
_THREADS = 2


def in_threads(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Applies a function to each item, in the order of the items, while the caller makes the next ones.

    Few items are held at a time, however many come; what the function raises, the caller gets.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        running: deque[Future[_Result]] = deque()
        for item in items:
            running.append(pool.submit(function, item))
            if len(running) > _THREADS:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
