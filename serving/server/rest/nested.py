"""Arrays from nested JSON lists."""

import base64
import binascii
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.server.rest.answers import json_type
from serving.server.signatures import STRING, Spec, numpy_dtype
from serving.server.status import invalid

_INTEGERS = ("int32", "int64")


def to_array(name: str, value: Any, spec: Spec) -> npt.NDArray[Any]:
    """Returns a JSON value as the array that an input takes.

    Args:
      name: of the input, for errors.
      value: a scalar, or lists as deep as the input has axes.
      spec: of the input.

    Raises:
      ServingError: INVALID_ARGUMENT, the lists are ragged or of another depth, or a value is of another type.
    """
    shape: list[int] = []
    inner = value
    for _ in spec.shape:
        if not isinstance(inner, list):
            raise invalid(f"input {name}: expected {spec}, received lists {len(shape)} deep")
        shape.append(len(inner))
        # What follows an empty list is as wide as it has to be.
        inner = inner[0] if inner else ([] if len(shape) < len(spec.shape) else None)
    flat: list[Any] = []
    _flatten(name, value, shape, flat)
    converted = _converted(name, flat, spec.dtype)
    array = np.empty(len(flat), numpy_dtype(spec.dtype))
    array[:] = converted
    return array.reshape(shape)


def _flatten(name: str, value: Any, shape: list[int], flat: list[Any]) -> None:
    if not shape:
        flat.append(value)
        return
    if not isinstance(value, list) or len(value) != shape[0]:
        received = len(value) if isinstance(value, list) else json_type(value)
        raise invalid(f"input {name} is ragged: expected lists of {shape[0]} elements, received {received}")
    if len(shape) == 1:
        flat.extend(value)
        return
    for element in value:
        _flatten(name, element, shape[1:], flat)


def _converted(name: str, flat: list[Any], dtype: str) -> list[Any]:
    if dtype == STRING:
        return [_text(name, value) if isinstance(value, str) else _binary(name, value) for value in flat]
    expected: tuple[type, ...] = (bool,) if dtype == "bool" else (int,) if dtype in _INTEGERS else (int, float)
    for value in flat:
        if type(value) not in expected:
            raise _wrong_type(name, dtype, value)
    if dtype in _INTEGERS and flat:
        limits = np.iinfo(dtype)
        if not limits.min <= min(flat) <= max(flat) <= limits.max:
            raise invalid(f"input {name}: expected {dtype}, received a number beyond its range")
    return flat


def _text(name: str, value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise invalid(f"input {name}: a string is no Unicode text") from error


def _binary(name: str, value: Any) -> bytes:
    if not (isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)):
        raise _wrong_type(name, STRING, value)
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(f"input {name}: Unable to base64 decode") from error


def _wrong_type(name: str, dtype: str, value: Any) -> Exception:
    return invalid(f"input {name}: expected {dtype}, received {json_type(value)}")
