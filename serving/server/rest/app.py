"""The REST application: every API's routes, and how mistakes are told."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import ASGIApp

from serving.server.auth import Gatekeeper
from serving.server.metrics import Metrics
from serving.server.rest import explorer, oip, openapi, operations, own, tfs
from serving.server.rest.answers import error_answer, refusal
from serving.server.rest.gate import Gate
from serving.server.service import Service
from serving.server.settings import LimitsConfig
from serving.server.status import ServingError


def make_app(service: Service, gatekeeper: Gatekeeper, metrics: Metrics, limits: LimitsConfig) -> ASGIApp:
    """Returns what uvicorn runs."""
    # Routes are tried in order: what is asked most comes first.
    every = [
        *own.operations(service),
        *tfs.operations(service),
        *oip.operations(service),
        *operations.operations(service, metrics),
    ]
    app = Starlette(
        routes=[
            *(operation.route for operation in every),
            *openapi.routes(every),
            explorer.route(),
            Mount("/v1", tfs.malformed),
        ],
        exception_handlers={ServingError: _refused, HTTPException: _refused_by_framework, Exception: _failed},
    )
    app.router.redirect_slashes = False  # a client that posts to a wrong path is told so
    return Gate(app, gatekeeper, metrics, limits.body_bytes, lambda name: name in service.registry.names)


async def _refused(_request: Request, error: Exception) -> Response:
    if not isinstance(error, ServingError):
        raise TypeError(f"expected a ServingError, received {type(error).__name__}")
    return refusal(error)


async def _refused_by_framework(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise TypeError(f"expected an HTTPException, received {type(error).__name__}")
    answer = error_answer(str(error.detail), error.status_code)
    answer.headers.update(error.headers or {})
    return answer


async def _failed(_request: Request, _error: Exception) -> Response:
    return error_answer("the server failed", 500)
