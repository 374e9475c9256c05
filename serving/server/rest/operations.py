"""What operators and supervisors ask for: health, metrics, and the admin's verbs."""

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import Response

from recsys.errors import BundleError
from serving.server import release
from serving.server.metrics import Metrics
from serving.server.rest.answers import json_answer
from serving.server.service import Service
from serving.server.status import Code, ServingError

ADMIN_PREFIX = "/admin/"
# Supervisors and browsers that load a page send no token. The explorer asks a person for one.
OPEN_PATHS = frozenset({"/", "/docs", "/openapi.json", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
OPEN_PREFIX = "/static-offline-docs/"


class ModelState(BaseModel):
    """The versions that serve a model, and what its index reaches."""

    name: str
    stable: int | None
    canary: int | None
    num_candidates: int
    max_k: int
    index_recall: float
    index_recall_k: int


class Overview(BaseModel):
    """What `/models` gives."""

    models: list[ModelState]


def routes(service: Service, metrics: Metrics) -> APIRouter:
    """Returns the operators' routes."""
    router = APIRouter(tags=["operations"])
    registry = service.registry

    @router.get("/healthz")
    async def healthz() -> Response:
        """Answers while the server runs."""
        return json_answer({"status": "ok"})

    @router.get("/readyz", responses={503: {}})
    async def readyz() -> Response:
        """Tells whether every model can answer."""
        return json_answer({"ready": registry.is_ready}, 200 if registry.is_ready else 503)

    @router.get("/metrics")
    @router.get("/monitoring/prometheus/metrics")
    async def prometheus() -> Response:
        """Shows the metrics as text for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.get("/models", response_model=Overview)
    async def models() -> Response:
        """Lists the models that answer."""
        return json_answer({"models": [_state(service, name) for name in registry.names if _serves(service, name)]})

    @router.post(f"{ADMIN_PREFIX}reload")
    async def reload() -> Response:
        """Looks for new versions now, also at those that were refused before."""
        await registry.refresh(try_again=True)
        return json_answer({"models": {name: _plan(service, name) for name in registry.names}})

    @router.post(f"{ADMIN_PREFIX}models/{{model:name}}/rollback")
    async def rollback(model: str) -> Response:
        """Withdraws the newest version and serves the one before it."""
        return await _decide(service, model, release.roll_back)

    @router.post(f"{ADMIN_PREFIX}models/{{model:name}}/promote")
    async def promote(model: str) -> Response:
        """Makes the canary stable."""
        return await _decide(service, model, release.promote)

    return router


async def _decide(service: Service, model: str, decide: Callable[..., Any]) -> Response:
    path = service.registry.path(model)
    try:
        await asyncio.to_thread(decide, path)
    except BundleError as error:
        raise ServingError(Code.FAILED_PRECONDITION, str(error).replace(f"{path.parent}/", "")) from error
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
