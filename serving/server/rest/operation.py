"""An operation of the REST API: what is routed, and what its documentation says."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.server.status import invalid

Endpoint = Callable[[Request], Awaitable[Response]]
Model = TypeVar("Model", bound=BaseModel)

MAX_INT32 = (1 << 31) - 1
MAX_VERSION = (1 << 63) - 1


@dataclass(frozen=True)
class Operation:
    """A verb on a path.

    Attributes:
      verb, path: with Starlette's converters in the path.
      endpoint: answers; its docstring is the summary.
      tag: the API that it belongs to.
      body, query, answer: what it takes and gives.
      statuses: besides 200 and those of every operation, what it may answer with.
      media_type: of the answer.
    """

    verb: str
    path: str
    endpoint: Endpoint
    tag: str
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    answer: type[BaseModel] | None = None
    statuses: tuple[int, ...] = ()
    media_type: str = "application/json"

    @property
    def route(self) -> Route:
        """For Starlette."""
        return Route(self.path, self.endpoint, methods=[self.verb])

    @property
    def documented_path(self) -> str:
        """Without converters."""
        return re.sub(r":\w+}", "}", self.path)


async def read_body(request: Request, model: type[Model]) -> Model:
    """Returns a request's body as a model.

    Raises:
      ServingError: INVALID_ARGUMENT, with everything that is wrong.
    """
    content = await request.body()
    return _validated(lambda: model.model_validate_json(content))


def read_query(request: Request, model: type[Model]) -> Model:
    """Returns the parameters behind the question mark as a model.

    Raises:
      ServingError: INVALID_ARGUMENT, with everything that is wrong.
    """
    given: Mapping[str, Any] = dict(request.query_params)
    return _validated(lambda: model.model_validate(given))


def read_version(request: Request) -> int | None:
    """Returns the version that a path names, if it does.

    Raises:
      ServingError: INVALID_ARGUMENT, it has more than 64 bits.
    """
    version: int | None = request.path_params.get("version")
    if version is not None and version > MAX_VERSION:
        raise invalid("Failed to convert version: it is too large to be one")
    return version


def _validated(validate: Callable[[], Model]) -> Model:
    try:
        return validate()
    except ValidationError as error:
        wrong = "; ".join(f"{_name(detail)}: {detail['msg'].lower()}" for detail in error.errors(include_url=False))
        raise invalid(wrong) from error


def _name(detail: Any) -> str:
    """The dotted name of a field, of which a client may have chosen the parts."""
    return ".".join(str(part)[:64] for part in detail["loc"][:4]) or "the body"
