"""The REST application: every API's routes, and how mistakes are told."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

import recsys
from serving.server.auth import Gatekeeper
from serving.server.metrics import Metrics
from serving.server.rest import explorer, oip, operations, own, tfs
from serving.server.rest.answers import error_answer, refusal
from serving.server.rest.gate import Gate
from serving.server.service import Service
from serving.server.settings import LimitsConfig
from serving.server.status import ServingError

_ERROR = {
    "description": "What is wrong, in one line.",
    "content": {
        "application/json": {
            "schema": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
        }
    },
}
_ERRORS: dict[int | str, dict[str, Any]] = dict.fromkeys((400, 401, 403, 404, 413, 503, 504), _ERROR)


def make_app(service: Service, gatekeeper: Gatekeeper, metrics: Metrics, limits: LimitsConfig) -> ASGIApp:
    """Returns what uvicorn runs."""
    app = FastAPIOffline(
        redoc_url=None,
        title="recsys",
        version=recsys.__version__,
        summary="Recommendations from published bundles.",
        responses=_ERRORS,
    )
    for router in (
        own.routes(service),
        operations.routes(service, metrics),
        tfs.routes(service),
        oip.routes(service),
        explorer.routes(),
    ):
        app.include_router(router)
    app.mount("/v1", tfs.malformed)
    _tell_mistakes(app)
    return Gate(app, gatekeeper, metrics, limits.body_bytes, service.registry.names.__contains__)


def _tell_mistakes(app: FastAPI) -> None:
    @app.exception_handler(ServingError)
    async def refused(_request: Request, error: ServingError) -> Response:
        return refusal(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        wrong = "; ".join(f"{_name(detail)}: {detail['msg'].lower()}" for detail in error.errors())
        return error_answer(wrong, 400)

    @app.exception_handler(HTTPException)
    async def refused_by_framework(_request: Request, error: HTTPException) -> Response:
        answer = error_answer(str(error.detail), error.status_code)
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def failed(_request: Request, _error: Exception) -> Response:
        return error_answer("the server failed", 500)


def _name(detail: Any) -> str:
    """The dotted name of a field, of which a client may have chosen the parts."""
    parts = [str(part)[:64] for part in detail["loc"] if part not in ("body", "query", "path")]
    return ".".join(parts[:4]) or "the body"
