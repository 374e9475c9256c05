"""What the server and a model's process say to each other over a socket: frames of a length and a pickled message.

Both ends are this program on this machine; nothing of a client's request is unpickled.
"""

import asyncio
import pickle
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from serving.bundle import BundleRecord
from serving.server.status import Code

# By name; strings are object arrays of bytes.
Tensors = dict[str, npt.NDArray[Any]]

_LENGTH = struct.Struct("!Q")


@dataclass(frozen=True)
class Loaded:
    """The first word of a process whose bundle is verified and warm.

    Attributes:
      record: the bundle's.
      signature_defs: of the SavedModel, a serialized `SignatureDefMap`.
      warm_up_requests: how many recorded requests were replayed.
    """

    record: BundleRecord
    signature_defs: bytes
    warm_up_requests: int


@dataclass(frozen=True)
class Refused:
    """The first word of a process that cannot serve its bundle.

    Attributes:
      reason: for clients and the log.
      is_final: whether the bundle itself is at fault, so that another try would end alike.
    """

    reason: str
    is_final: bool


@dataclass(frozen=True)
class Ask:
    """Calls a signature.

    Attributes:
      signature, inputs: what to call, and with what.
      shown: whether the answer also tells what a person sees of each item of `item_ids`.
      request_id: for the log; of requests that share the call, all of them.
    """

    signature: str
    inputs: Tensors
    shown: bool = False
    request_id: str = ""


@dataclass(frozen=True)
class Answer:
    """What a signature gave, and per row and item of `item_ids` the shown fields, where they were asked for."""

    outputs: Tensors
    shown: list[list[dict[str, str]]] | None = None


@dataclass(frozen=True)
class Search:
    """Looks for items whose id or shown text contains `text`, without regard to case."""

    text: str
    limit: int


@dataclass(frozen=True)
class Found:
    """Item ids and what is shown of them."""

    items: list[tuple[str, dict[str, str]]]


@dataclass(frozen=True)
class Failed:
    """A call that raised, and with which code."""

    reason: str
    code: Code


def frame(message: object) -> bytes:
    """Returns a message as it is sent."""
    content = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(content)) + content


async def receive(reader: asyncio.StreamReader) -> Any:
    """Returns the next message.

    Raises:
      asyncio.IncompleteReadError: the other end is gone.
    """
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return pickle.loads(await reader.readexactly(length))  # noqa: S301  from our own process


def receive_blocking(file: BinaryIO) -> Any:
    """Returns the next message, or None when the other end is closed."""
    header = file.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        return None
    return pickle.loads(file.read(_LENGTH.unpack(header)[0]))  # noqa: S301  from our own process


def strings(values: list[bytes]) -> npt.NDArray[Any]:
    """Returns [len(values)] strings."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def string_rows(rows: list[list[bytes]]) -> npt.NDArray[Any]:
    """Returns [len(rows), longest] strings; shorter rows end in empty ones, the signatures' padding."""
    array = np.full((len(rows), max(map(len, rows), default=0)), b"", object)
    for number, row in enumerate(rows):
        array[number, : len(row)] = row
    return array
