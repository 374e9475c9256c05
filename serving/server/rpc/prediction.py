"""`tensorflow.serving.PredictionService`: Predict and GetModelMetadata."""

import grpc
from google.protobuf.any_pb2 import Any as AnyProto
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, GetModelMetadataResponse
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

from serving.server.messages import Tensors
from serving.server.model_status import metadata_response
from serving.server.rpc.calls import Calls
from serving.server.rpc.tensors import from_proto, to_proto
from serving.server.service import Service, Target
from serving.server.signatures import Signature
from serving.server.status import invalid

_SERVICE = "tensorflow.serving.PredictionService"
_METADATA = "signature_def"


def handlers(service: Service, calls: Calls) -> grpc.GenericRpcHandler:
    """Returns the service."""

    async def predict(request: PredictRequest, seconds: float | None) -> PredictResponse:
        def inputs(_signature: Signature) -> Tensors:
            return {name: from_proto(name, proto) for name, proto in request.inputs.items()}

        result = await service.predict(
            target(request.model_spec), request.model_spec.signature_name, inputs, request.output_filter, seconds
        )
        response = PredictResponse(outputs={name: to_proto(value) for name, value in result.outputs.items()})
        response.model_spec.name = result.target.model
        response.model_spec.version.value = result.target.version or 0
        response.model_spec.signature_name = result.signature.name
        return response

    async def metadata(request: GetModelMetadataRequest, _seconds: float | None) -> GetModelMetadataResponse:
        if list(request.metadata_field) != [_METADATA]:
            raise invalid(f"metadata_field: expected [{_METADATA}]")
        found = metadata_response(service.registry, target(request.model_spec))
        packed = AnyProto()
        packed.Pack(found.signature_defs)
        return GetModelMetadataResponse(model_spec=found.model_spec, metadata={_METADATA: packed})

    return grpc.method_handlers_generic_handler(
        _SERVICE,
        {
            "Predict": calls.method("Predict", PredictRequest, predict),
            "GetModelMetadata": calls.method("GetModelMetadata", GetModelMetadataRequest, metadata),
        },
    )


def target(spec: ModelSpec) -> Target:
    """Returns whom a request asks.

    Raises:
      ServingError: INVALID_ARGUMENT, it names no model.
    """
    if not spec.name:
        raise invalid("Missing ModelSpec name")
    version = spec.version.value if spec.HasField("version") else None
    return Target(spec.name, version, spec.version_label or None)
