"""Makes the first calls of a loaded model, which are slow, before a client's."""

from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from recsys.errors import BundleError
from serving.bundle import Bundle
from serving.warm_up_requests import WARM_UP_REQUESTS

_MAX_REQUESTS = 1000
_DEFAULT_SIGNATURE = "serving_default"


def warm_up(bundle: Bundle) -> int:
    """Calls every signature once with the emptiest inputs, then replays the bundle's recorded requests.

    The records are TensorFlow Serving's: a TFRecord of `PredictionLog`. A missing file is fine.

    Returns:
      How many recorded requests were replayed.

    Raises:
      BundleError: there are too many, one is not readable, or the model does not answer one.
    """
    for signature in bundle.model.signatures.values():
        inputs = signature.structured_input_signature[1]
        signature(**{name: _emptiest(spec) for name, spec in inputs.items()})
    file = bundle.path / WARM_UP_REQUESTS
    if not file.is_file():
        return 0
    number = 0
    try:
        for number, record in enumerate(tf.data.TFRecordDataset(str(file)).as_numpy_iterator(), start=1):
            if number > _MAX_REQUESTS:
                raise BundleError(f"{file} has too many requests: expected at most {_MAX_REQUESTS}")
            _replay(bundle.model, PredictionLog.FromString(record))
    except (DecodeError, KeyError, TypeError, ValueError, tf.errors.OpError) as error:
        raise BundleError(f"{file}: warm-up request {number or 1} fails ({_reason(error)}); export it again") from error
    return number


def _reason(error: Exception) -> str:
    return "the file is damaged" if isinstance(error, (DecodeError, tf.errors.DataLossError)) else type(error).__name__


def _replay(model: Any, log: PredictionLog) -> None:
    if not log.HasField("predict_log"):
        raise ValueError(f"expected a predict_log, received {log.WhichOneof('log_type')}")
    request: PredictRequest = log.predict_log.request
    signature = model.signatures[request.model_spec.signature_name or _DEFAULT_SIGNATURE]
    signature(**{name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()})


def _emptiest(spec: tf.TensorSpec) -> tf.Tensor:
    """One row, lists without elements; numbers are 1, as k is at least that."""
    shape = [1 if axis == 0 else (size or 0) for axis, size in enumerate(spec.shape)]
    value = b"" if spec.dtype == tf.string else np.ones((), spec.dtype.as_numpy_dtype)
    return tf.fill(shape, tf.constant(value, spec.dtype))
