"""What operators and supervisors ask for: health, metrics, and the admin's verbs."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from recsys.errors import BundleError
from serving.server import release
from serving.server.metrics import Metrics
from serving.server.rest.answers import json_answer
from serving.server.rest.openapi import ASSETS, DOCUMENT, PAGE
from serving.server.rest.operation import Operation
from serving.server.service import Service
from serving.server.status import Code, ServingError

ADMIN_PREFIX = "/admin/"
# Supervisors and browsers that load a page send no token. The explorer asks a person for one.
OPEN_PATHS = frozenset({"/", PAGE, DOCUMENT, "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
OPEN_PREFIX = f"{ASSETS}/"

_TAG = "operations"
_MODEL = f"{ADMIN_PREFIX}models/{{model:name}}"


# Without one it is null.
_Version = Annotated[int | None, WithJsonSchema({"type": "integer", "nullable": True})]


class ModelState(BaseModel):
    """The versions that serve a model, and what its index reaches."""

    name: str
    stable: _Version
    canary: _Version
    num_candidates: int
    max_k: int
    index_recall: float
    index_recall_k: int


class Overview(BaseModel):
    """What `/models` gives."""

    models: list[ModelState]


def operations(service: Service, metrics: Metrics) -> list[Operation]:
    """Returns the operators' operations."""
    registry = service.registry

    async def healthz(_request: Request) -> Response:
        """Answers while the server runs."""
        return json_answer({"status": "ok"})

    async def readyz(_request: Request) -> Response:
        """Tells whether every model can answer."""
        return json_answer({"ready": registry.is_ready}, 200 if registry.is_ready else 503)

    async def prometheus(_request: Request) -> Response:
        """Shows the metrics as text for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def models(_request: Request) -> Response:
        """Lists the models that answer."""
        return json_answer({"models": [_state(service, name) for name in registry.names if _serves(service, name)]})

    async def reload(_request: Request) -> Response:
        """Looks for new versions now, also at those that were refused before."""
        await registry.refresh(try_again=True)
        return json_answer({"models": {name: _plan(service, name) for name in registry.names}})

    async def rollback(request: Request) -> Response:
        """Withdraws the newest version and serves the one before it."""
        return await _decide(service, request.path_params["model"], release.roll_back)

    async def promote(request: Request) -> Response:
        """Makes the canary stable."""
        return await _decide(service, request.path_params["model"], release.promote)

    return [
        Operation("GET", "/healthz", healthz, _TAG),
        Operation("GET", "/readyz", readyz, _TAG, statuses=(503,)),
        Operation("GET", "/metrics", prometheus, _TAG, media_type="text/plain"),
        Operation("GET", "/monitoring/prometheus/metrics", prometheus, _TAG, media_type="text/plain"),
        Operation("GET", "/models", models, _TAG, answer=Overview),
        Operation("POST", f"{ADMIN_PREFIX}reload", reload, _TAG),
        Operation("POST", f"{_MODEL}/rollback", rollback, _TAG),
        Operation("POST", f"{_MODEL}/promote", promote, _TAG),
    ]


async def _decide(service: Service, model: str, decide: Callable[..., Any]) -> Response:
    path = service.registry.path(model)
    try:
        await asyncio.to_thread(decide, path)
    except BundleError as error:
        raise ServingError(Code.FAILED_PRECONDITION, str(error).replace(f"{path.parent}/", "")) from error
    except OSError as error:
        reason = f"{model}: the decision cannot be written ({error.strerror}); expected a folder that takes files"
        raise ServingError(Code.FAILED_PRECONDITION, reason) from error
    await service.registry.refresh()
    return json_answer(_plan(service, model))


def _plan(service: Service, model: str) -> dict[str, int | None]:
    return service.registry.model(model).plan.model_dump()


def _serves(service: Service, model: str) -> bool:
    return service.registry.model(model).plan.stable is not None


def _state(service: Service, model: str) -> dict[str, Any]:
    with service.registry.use(model, label="stable") as servable:
        record = servable.record
        fields = ("num_candidates", "max_k", "index_recall", "index_recall_k")
        return {"name": model} | _plan(service, model) | {name: getattr(record, name) for name in fields}
