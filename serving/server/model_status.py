"""A model's state and signatures in TensorFlow Serving's words, for REST and gRPC alike."""

from dataclasses import dataclass

from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse, ModelVersionStatus
from tensorflow_serving.apis.model_pb2 import ModelSpec

from serving.server.model import VersionStatus
from serving.server.registry import Registry
from serving.server.service import Target
from serving.server.status import Code, not_found


@dataclass(frozen=True)
class Metadata:
    """Who answers, and what it takes and gives."""

    model_spec: ModelSpec
    signature_defs: SignatureDefMap


def status_response(registry: Registry, target: Target) -> GetModelStatusResponse:
    """Returns the state of every version of a model, newest first, or of the one that is asked for.

    Raises:
      ServingError: there is no such model, version or label.
    """
    model = registry.model(target.model, target.version)
    wanted = target.version
    if target.label is not None:
        wanted = model.find(None, target.label).version
    statuses = [status for version, status in sorted(model.statuses.items(), reverse=True) if wanted in (None, version)]
    if not statuses:
        raise not_found(target.model, wanted)
    return GetModelStatusResponse(model_version_status=[_status(status) for status in statuses])


def _status(status: VersionStatus) -> ModelVersionStatus:
    made = ModelVersionStatus(version=status.version, state=ModelVersionStatus.State.Value(status.state))
    made.status.error_code = Code.FAILED_PRECONDITION.number if status.error else 0
    made.status.error_message = status.error
    return made


def metadata_response(registry: Registry, target: Target) -> Metadata:
    """Returns the signatures of the version that would answer.

    Raises:
      ServingError: there is no such model, version or label.
    """
    with registry.use(target.model, target.version, target.label) as servable:
        spec = ModelSpec(name=servable.model)
        spec.version.value = servable.version
        return Metadata(spec, servable.signature_defs)
