"""JSON in and out, and the routes' names."""

from typing import Any

import orjson
from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import Response

from serving.server.status import ServingError, invalid

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY


def json_answer(content: Any, status: int = 200) -> Response:
    """Returns `content`, in which arrays may stand, as JSON."""
    return Response(orjson.dumps(content, option=_OPTIONS), status, media_type="application/json")


def error_answer(message: str, status: int) -> Response:
    """Returns what every failed request is told."""
    # Half a surrogate pair, which a client may have sent, cannot be written.
    return json_answer({"error": message.encode(errors="replace").decode()}, status)


def refusal(error: ServingError) -> Response:
    """Returns a refusal."""
    return error_answer(str(error), error.code.http_status)


def read_object(body: bytes) -> dict[str, Any]:
    """Parses a request's body.

    Raises:
      ServingError: INVALID_ARGUMENT, it is no JSON object.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {error}") from error
    if not isinstance(content, dict):
        raise invalid(f"expected a JSON object, received {json_type(content)}")
    return content


def json_type(value: Any) -> str:
    """What JSON calls a parsed value."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


class _Name(Convertor[str]):
    """A model's name, as in `/v1/models/<name>:predict`: neither a slash nor a colon."""

    regex = "[^/:]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _Digits(Convertor[int]):
    """A version, of as many digits as 64 bits may have."""

    regex = "[0-9]{1,19}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("name", _Name())
register_url_convertor("digits", _Digits())
