"""Why a request fails, in the canonical codes that REST and gRPC share."""

from enum import Enum

from recsys.errors import RecsysError


class Code(Enum):
    """A canonical code: its number in gRPC, and TensorFlow Serving's HTTP status for it."""

    INVALID_ARGUMENT = (3, 400)
    DEADLINE_EXCEEDED = (4, 504)
    NOT_FOUND = (5, 404)
    PERMISSION_DENIED = (7, 403)
    RESOURCE_EXHAUSTED = (8, 429)
    FAILED_PRECONDITION = (9, 400)
    INTERNAL = (13, 500)
    UNAVAILABLE = (14, 503)
    UNAUTHENTICATED = (16, 401)

    @property
    def number(self) -> int:
        """In gRPC and in `tensorflow.error.Code`."""
        return self.value[0]

    @property
    def http_status(self) -> int:
        """Of a REST answer."""
        return self.value[1]


class ServingError(RecsysError):
    """A request that is refused. The message is for the client: it names no path of this machine."""

    def __init__(self, code: Code, message: str) -> None:
        """Takes the canonical code and the line that the client reads."""
        super().__init__(message)
        self.code = code


def invalid(message: str) -> ServingError:
    """A request that cannot be answered as asked."""
    return ServingError(Code.INVALID_ARGUMENT, message)
