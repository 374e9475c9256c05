"""TensorFlow Serving's REST API: `/v1/models/…`."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Request
from google.protobuf import json_format
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.server.model_status import metadata_response, status_response
from serving.server.rest.answers import error_answer, json_answer, read_object
from serving.server.rest.predict_json import PredictRequest, predict_answer
from serving.server.service import Service, Target
from serving.server.status import invalid

_VERSION_LIMIT = 1 << 63

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "signature_name": {"type": "string"},
                        "instances": {"type": "array", "minItems": 1, "items": {}},
                        "inputs": {},
                    },
                    "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
                },
                "example": {"signature_name": "serving_default", "instances": [{"user_id": "42"}]},
            }
        },
    }
}

_Model = Annotated[str, Path(description="A model's name.")]
_Version = Annotated[str, Path(description="A version's number.", pattern=r"^\d+$")]


def routes(service: Service) -> APIRouter:
    """Returns the API's routes."""
    router = APIRouter(prefix="/v1/models", tags=["TensorFlow Serving"])

    async def answer(request: Request, target: Target) -> Response:
        asked = PredictRequest(read_object(await request.body()))
        result = await service.predict(target, asked.signature_name, asked.inputs)
        return json_answer(predict_answer(result.outputs, asked.is_rows))

    @router.post("/{model:name}:predict", openapi_extra=_BODY)
    async def predict(request: Request, model: _Model) -> Response:
        """Calls a signature of the stable version."""
        return await answer(request, Target(model))

    @router.post("/{model:name}/versions/{version:int}:predict", openapi_extra=_BODY)
    async def predict_version(request: Request, model: _Model, version: _Version) -> Response:
        """Calls a signature of a version."""
        return await answer(request, Target(model, version=_number(version)))

    @router.post("/{model:name}/labels/{label:name}:predict", openapi_extra=_BODY)
    async def predict_label(request: Request, model: _Model, label: str) -> Response:
        """Calls a signature of the version that has the label `stable` or `canary`."""
        return await answer(request, Target(model, label=label))

    @router.get("/{model:name}")
    async def model_status(model: _Model) -> Response:
        """Tells the state of each version."""
        return _status(service, Target(model))

    @router.get("/{model:name}/versions/{version:int}")
    async def version_status(model: _Model, version: _Version) -> Response:
        """Tells the state of a version."""
        return _status(service, Target(model, version=_number(version)))

    @router.get("/{model:name}/labels/{label:name}")
    async def label_status(model: _Model, label: str) -> Response:
        """Tells the state of the version that has a label."""
        return _status(service, Target(model, label=label))

    @router.get("/{model:name}/metadata")
    async def model_metadata(model: _Model) -> Response:
        """Describes the stable version's signatures."""
        return _metadata(service, Target(model))

    @router.get("/{model:name}/versions/{version:int}/metadata")
    async def version_metadata(model: _Model, version: _Version) -> Response:
        """Describes a version's signatures."""
        return _metadata(service, Target(model, version=_number(version)))

    @router.get("/{model:name}/labels/{label:name}/metadata")
    async def label_metadata(model: _Model, label: str) -> Response:
        """Describes the signatures of the version that has a label."""
        return _metadata(service, Target(model, label=label))

    return router


def _number(version: str) -> int:
    if int(version) >= _VERSION_LIMIT:
        raise invalid("Failed to convert version: it is too large to be one")
    return int(version)


def _status(service: Service, target: Target) -> Response:
    content = json_format.MessageToDict(
        status_response(service.registry, target),
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
    return json_answer(content)


def _metadata(service: Service, target: Target) -> Response:
    response = metadata_response(service.registry, target)
    signature_defs: Any = orjson.loads(
        json_format.MessageToJson(response.signature_defs, preserving_proto_field_name=True)
    )
    spec = json_format.MessageToDict(response.model_spec, preserving_proto_field_name=True)
    return json_answer({"model_spec": spec, "metadata": {"signature_def": signature_defs}})


async def malformed(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers every other path and verb below `/v1`."""
    await error_answer(f"Malformed request: {scope['method']} {scope['path'][:256]}", 400)(scope, receive, send)
