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
    OUT_OF_RANGE = (11, 400)
    UNIMPLEMENTED = (12, 501)
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

    @classmethod
    def numbered(cls, number: int) -> "Code":
        """Returns the code of a number; INTERNAL for those that a client can make nothing of."""
        return next((code for code in cls if code.number == number), cls.INTERNAL)


class ServingError(RecsysError):
    """A request that is refused. The message is for the client: it names no path of this machine."""

    def __init__(self, code: Code, message: str) -> None:
        """Takes the canonical code and the line that the client reads."""
        super().__init__(message)
        self.code = code


def not_found(model: str, version: int | None) -> ServingError:
    """A model that is not served, or not in that version; None is any."""
    asked = f"Latest({model[:64]})" if version is None else f"Specific({model[:64]}, {version})"
    return ServingError(Code.NOT_FOUND, f"Servable not found for request: {asked}")


def invalid(message: str) -> ServingError:
    """A request that cannot be answered as asked."""
    return ServingError(Code.INVALID_ARGUMENT, message)


def too_late() -> ServingError:
    """A request whose time is over."""
    return ServingError(Code.DEADLINE_EXCEEDED, "there was no answer within the deadline")
