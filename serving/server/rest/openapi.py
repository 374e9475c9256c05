"""The OpenAPI document of the REST API, and the page that shows it."""

from collections.abc import Sequence
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from swagger_ui_bundle import swagger_ui_path

import recsys
from serving.server.rest.operation import Operation

_REFERENCES = "#/components/schemas/{model}"
_EVERYWHERE = (400, 401, 403, 404, 413, 503, 504)
DOCUMENT, PAGE, ASSETS = "/openapi.json", "/docs", "/docs-assets"

_HTML = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>recsys: REST API</title>
<link rel="stylesheet" href="{ASSETS}/swagger-ui.css">
<link rel="icon" href="data:,">
<div id="api"></div>
<script src="{ASSETS}/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({{url: "{DOCUMENT}", dom_id: "#api"}})</script>
"""


def routes(operations: Sequence[Operation]) -> list[Route | Mount]:
    """Returns the routes of the document, of the page and of what the page loads."""
    document = orjson.dumps(describe(operations))

    async def openapi(_request: Request) -> Response:
        return Response(document, media_type="application/json")

    async def page(_request: Request) -> Response:
        return HTMLResponse(_HTML)

    assets = StaticFiles(directory=swagger_ui_path)
    return [Route(DOCUMENT, openapi), Route(PAGE, page), Mount(ASSETS, assets)]


def describe(operations: Sequence[Operation]) -> dict[str, Any]:
    """Returns the document: OpenAPI 3.0, which knows no type of null."""
    models = {model for operation in operations for model in (operation.body, operation.answer) if model is not None}
    named = sorted(models, key=lambda model: model.__name__)
    _, schemas = models_json_schema([(model, "validation") for model in named], ref_template=_REFERENCES)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.documented_path, {})[operation.verb.lower()] = _operation(operation)
    return {
        "openapi": "3.0.3",
        "info": {"title": "recsys", "version": recsys.__version__},
        "paths": paths,
        "components": {
            "schemas": schemas.get("$defs", {}),
            "responses": {"Error": {"description": "What is wrong, in one line.", "content": _content(_ERROR)}},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


_ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}


def _operation(operation: Operation) -> dict[str, Any]:
    answer = _content(_reference(operation.answer), operation.media_type)
    described: dict[str, Any] = {
        "tags": [operation.tag],
        "summary": (operation.endpoint.__doc__ or "").strip(),
        "operationId": f"{operation.verb.lower()}{operation.documented_path}",
        "parameters": [*_path_parameters(operation), *_query_parameters(operation.query)],
        "responses": {
            "200": {"description": "The answer.", "content": answer},
            **{str(status): {"$ref": "#/components/responses/Error"} for status in _EVERYWHERE},
            **{str(status): {"description": "The answer is no."} for status in operation.statuses},
        },
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _content(_reference(operation.body))}
    return described


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    for name, converter in operation.route.param_convertors.items():
        kind: dict[str, Any] = {"type": "string", "pattern": f"^{converter.regex}$"}
        parameters.append({"name": name, "in": "path", "required": True, "schema": kind})
    return parameters


def _query_parameters(query: type[BaseModel] | None) -> list[dict[str, Any]]:
    if query is None:
        return []
    schema = query.model_json_schema()
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": kind}
        for name, kind in schema["properties"].items()
    ]


def _reference(model: type[BaseModel] | None) -> dict[str, Any]:
    return {} if model is None else {"$ref": _REFERENCES.format(model=model.__name__)}


def _content(schema: dict[str, Any], media_type: str = "application/json") -> dict[str, Any]:
    return {media_type: {"schema": schema}}
