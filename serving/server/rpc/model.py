"""`tensorflow.serving.ModelService`: GetModelStatus and HandleReloadConfigRequest."""

import grpc
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, GetModelStatusResponse
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest, ReloadConfigResponse
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from serving.server.auth import Scope
from serving.server.model_status import status_response
from serving.server.rpc.calls import Calls
from serving.server.rpc.prediction import target
from serving.server.service import Service
from serving.server.status import invalid

_SERVICE = "tensorflow.serving.ModelService"
_PLATFORMS = ("", "tensorflow")


def handlers(service: Service, calls: Calls) -> grpc.GenericRpcHandler:
    """Returns the service."""

    async def status(request: GetModelStatusRequest, _seconds: float | None) -> GetModelStatusResponse:
        return status_response(service.registry, target(request.model_spec))

    async def reload(request: ReloadConfigRequest, _seconds: float | None) -> ReloadConfigResponse:
        for config in request.config.model_config_list.config:
            _require_ours(config, service)
        await service.registry.refresh(try_again=True)
        return ReloadConfigResponse()

    return grpc.method_handlers_generic_handler(
        _SERVICE,
        {
            "GetModelStatus": calls.method("GetModelStatus", GetModelStatusRequest, status),
            "HandleReloadConfigRequest": calls.method(
                "HandleReloadConfigRequest", ReloadConfigRequest, reload, Scope.ADMIN
            ),
        },
    )


def _require_ours(config: ModelConfig, service: Service) -> None:
    """A client may ask to look again, and not to open another folder: what is served, the server's operator says."""
    if config.name not in service.registry.names:
        raise invalid(f"model {config.name[:64]!r}: expected one of {', '.join(service.registry.names)}")
    if config.base_path and config.base_path != str(service.registry.path(config.name)):
        raise invalid(f"base_path of {config.name}: expected the one that is served, or none")
    if config.model_platform not in _PLATFORMS or config.HasField("model_version_policy") or config.version_labels:
        raise invalid(f"config of {config.name}: expected no version policy and no labels; see rollback and promote")
