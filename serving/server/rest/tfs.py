"""TensorFlow Serving's REST API: `/v1/models/…`."""

from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.server.model_status import metadata_response, status_response
from serving.server.rest.answers import error_answer, json_answer, read_object
from serving.server.rest.operation import Operation, read_version
from serving.server.rest.predict_json import PredictRequest, predict_answer
from serving.server.service import Service, Target

_TAG = "TensorFlow Serving"
_TARGETS = ("{model:name}", "{model:name}/versions/{version:digits}", "{model:name}/labels/{label:name}")


class PredictBody(BaseModel):
    """What `:predict` takes, for the documentation: rows as `instances`, or columns as `inputs`."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
            "example": {"signature_name": "serving_default", "instances": [{"user_id": "42"}]},
        }
    )

    signature_name: str = ""
    instances: list[Any] = []
    inputs: Any = None


def operations(service: Service) -> list[Operation]:
    """Returns the API's operations, each for the stable version, for a version and for a label."""

    async def predict(request: Request) -> Response:
        """Calls a signature."""
        asked = PredictRequest(read_object(await request.body()))
        result = await service.predict(_target(request), asked.signature_name, asked.inputs)
        return json_answer(predict_answer(result.outputs, asked.is_rows))

    async def status(request: Request) -> Response:
        """Tells the state of each version that is meant."""
        return _status(service, _target(request))

    async def metadata(request: Request) -> Response:
        """Describes the signatures."""
        return _metadata(service, _target(request))

    return [
        operation
        for target in _TARGETS
        for operation in (
            Operation("POST", f"/v1/models/{target}:predict", predict, _TAG, body=PredictBody),
            Operation("GET", f"/v1/models/{target}", status, _TAG),
            Operation("GET", f"/v1/models/{target}/metadata", metadata, _TAG),
        )
    ]


def _target(request: Request) -> Target:
    return Target(request.path_params["model"], read_version(request), request.path_params.get("label"))


def _status(service: Service, target: Target) -> Response:
    return json_answer(_jsonable(status_response(service.registry, target)))


def _metadata(service: Service, target: Target) -> Response:
    response = metadata_response(service.registry, target)
    signature_defs = _jsonable(response.signature_defs)
    return json_answer({"model_spec": _jsonable(response.model_spec), "metadata": {"signature_def": signature_defs}})


def _jsonable(message: Message) -> Any:
    """As TensorFlow Serving prints it: the names of the `.proto`, and every field, also those that are not set."""
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


async def malformed(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers every other path and verb below `/v1`."""
    await error_answer(f"Malformed request: {scope['method']} {scope['path'][:256]}", 400)(scope, receive, send)
