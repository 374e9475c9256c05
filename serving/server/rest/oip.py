"""The Open Inference Protocol's REST API, version 2: `/v2/…`.

The protocol knows one signature per model: ours is `serving_default`, unless the request's `parameters` name another by
`signature_name`.
"""

import math
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

import recsys
from serving.server.messages import Tensors
from serving.server.rest.answers import json_answer
from serving.server.rest.nested import to_array
from serving.server.rest.operation import Operation, read_body, read_version
from serving.server.service import Service, Target
from serving.server.signatures import Signature, Spec, find
from serving.server.status import invalid

_DATATYPES = {
    "string": "BYTES",
    "float32": "FP32",
    "float64": "FP64",
    "int32": "INT32",
    "int64": "INT64",
    "bool": "BOOL",
}

_MAX_AXES = 8
# An extension that we do not have: the length of the JSON that precedes binary tensors.
_BINARY = "Inference-Header-Content-Length"

_TAG = "Open Inference Protocol"
_TARGETS = ("/v2/models/{model:name}", "/v2/models/{model:name}/versions/{version:digits}")


class InferInput(BaseModel):
    """A tensor of a request; `data` is flat or nested, in row-major order."""

    name: str
    shape: list[Annotated[int, Field(ge=0, le=2**31)]] = Field(max_length=_MAX_AXES)
    datatype: str
    data: Any
    parameters: dict[str, Any] = {}


class InferOutput(BaseModel):
    """An output that is asked for."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(BaseModel):
    """The body of an `infer`."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"inputs": [{"name": "user_id", "shape": [1], "datatype": "BYTES", "data": ["42"]}]}
        }
    )

    inputs: list[InferInput]
    outputs: list[InferOutput] = []
    id: str = ""
    parameters: dict[str, Any] = {}


def operations(service: Service) -> list[Operation]:
    """Returns the API's operations."""

    async def server(_request: Request) -> Response:
        """Names the server."""
        return json_answer({"name": "recsys", "version": recsys.__version__, "extensions": []})

    async def live(_request: Request) -> Response:
        """Answers while the server runs."""
        return json_answer({"live": True})

    async def ready(_request: Request) -> Response:
        """Tells whether every model can answer."""
        return json_answer({"ready": service.registry.is_ready}, 200 if service.registry.is_ready else 503)

    async def metadata(request: Request) -> Response:
        """Describes a model's default signature."""
        return _metadata(service, _target(request))

    async def model_ready(request: Request) -> Response:
        """Tells whether a model can answer."""
        return _ready(service, _target(request))

    async def infer(request: Request) -> Response:
        """Calls a signature."""
        if _BINARY in request.headers:
            raise invalid(f"{_BINARY}: tensors in binary are not supported; expected them in JSON")
        return await _infer(service, _target(request), await read_body(request, InferRequest))

    return [
        Operation("GET", "/v2", server, _TAG),
        Operation("GET", "/v2/health/live", live, _TAG),
        Operation("GET", "/v2/health/ready", ready, _TAG, statuses=(503,)),
        *(
            operation
            for target in _TARGETS
            for operation in (
                Operation("POST", f"{target}/infer", infer, _TAG, body=InferRequest),
                Operation("GET", target, metadata, _TAG),
                Operation("GET", f"{target}/ready", model_ready, _TAG),
            )
        ),
    ]


def _target(request: Request) -> Target:
    return Target(request.path_params["model"], read_version(request))


def _ready(service: Service, target: Target) -> Response:
    with service.registry.use(target.model, target.version) as servable:
        return json_answer({"name": servable.model, "ready": True})


def _metadata(service: Service, target: Target) -> Response:
    with service.registry.use(target.model, target.version) as servable:
        signature = find(servable.signatures, "")
        return json_answer(
            {
                "name": servable.model,
                "versions": [str(version) for version in service.registry.model(target.model).plan.wanted],
                "platform": "tensorflow_savedmodel",
                "inputs": [_described(name, spec) for name, spec in signature.inputs.items()],
                "outputs": [_described(name, spec) for name, spec in signature.outputs.items()],
            }
        )


def _described(name: str, spec: Spec) -> dict[str, Any]:
    shape = [-1 if size is None else size for size in spec.shape]
    return {"name": name, "datatype": _DATATYPES[spec.dtype], "shape": shape}


async def _infer(service: Service, target: Target, asked: InferRequest) -> Response:
    signature_name = asked.parameters.get("signature_name", "")
    if not isinstance(signature_name, str):
        raise invalid("parameters.signature_name: expected a string")
    result = await service.predict(
        target, signature_name, lambda signature: _tensors(asked, signature), [output.name for output in asked.outputs]
    )
    answer = {
        "model_name": result.target.model,
        "model_version": str(result.target.version),
        "outputs": [_output(name, value, result.signature.outputs[name]) for name, value in result.outputs.items()],
    }
    return json_answer({"id": asked.id} | answer if asked.id else answer)


def _tensors(asked: InferRequest, signature: Signature) -> Tensors:
    names = [given.name for given in asked.inputs]
    if len(names) != len(set(names)):
        raise invalid("an input is given twice")
    return {given.name: _tensor(given, signature) for given in asked.inputs}


def _tensor(given: InferInput, signature: Signature) -> npt.NDArray[Any]:
    spec = signature.inputs.get(given.name)
    if spec is None:
        raise invalid(f"inputs: expected {', '.join(sorted(signature.inputs))}; received {given.name[:64]!r}")
    if given.datatype != _DATATYPES[spec.dtype]:
        raise invalid(f"input {given.name}: expected {_DATATYPES[spec.dtype]}, received {given.datatype[:64]!r}")
    if not spec.allows(given.shape):
        raise invalid(f"input {given.name}: expected {spec}, received {Spec(spec.dtype, tuple(given.shape))}")
    flat = _flat(given.data)
    if spec.dtype.startswith("int"):
        # JSON has one kind of numbers: there are clients that write 3 as 3.0.
        flat = [int(value) if isinstance(value, float) and value.is_integer() else value for value in flat]
    if math.prod(given.shape) != len(flat):
        raise invalid(f"input {given.name}: its shape has {math.prod(given.shape)} elements, received {len(flat)}")
    return to_array(given.name, flat, Spec(spec.dtype, (None,))).reshape(given.shape)


def _flat(data: Any, depth: int = 0) -> list[Any]:
    if not isinstance(data, list):
        return [data]
    if depth == _MAX_AXES:
        raise invalid(f"data is nested too deep: expected at most {_MAX_AXES} lists in each other")
    return [value for element in data for value in _flat(element, depth + 1)]


def _output(name: str, value: npt.NDArray[Any], spec: Spec) -> dict[str, Any]:
    flat = value.ravel()
    data = [text.decode(errors="replace") for text in flat] if flat.dtype == object else np.ascontiguousarray(flat)
    return {"name": name, "datatype": _DATATYPES[spec.dtype], "shape": list(value.shape), "data": data}
