"""The requests that a bundle brings along, for a server to make before its clients do.

TensorFlow Serving's format: a TFRecord of `PredictionLog`. Our own server replays the same file.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog, PredictLog

from serving.every_signature import Inputs, ask_every_signature

WARM_UP_REQUESTS = "assets.extra/tf_serving_warmup_requests"
_BATCH_SIZES = (1, 16, 64)


def write_warm_up_requests(folder: Path, users: list[str], items: list[str], k: int) -> None:
    """Writes requests of every signature, of one row and of many.

    Args:
      folder: the SavedModel's.
      users: raw ids of whom to ask for, known and unknown.
      items: raw ids of items, at least one.
      k: how many items to ask for.
    """
    with tf.io.TFRecordWriter(str(folder / WARM_UP_REQUESTS)) as writer:
        for size in _BATCH_SIZES:
            user_id, item_id = (np.resize(np.asarray(ids), size) for ids in (users, items))
            nothing = np.full([size, 0], "")
            requests = ask_every_signature(user_id, item_id[:, np.newaxis], nothing, nothing, item_id, k)
            without_history = requests["recommend"] | {"history": nothing}
            for signature, inputs in [*requests.items(), ("recommend", without_history)]:
                writer.write(_log(signature, inputs).SerializeToString())


def _log(signature: str, inputs: Inputs) -> PredictionLog:
    request = PredictRequest()
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        is_text = value.dtype.kind == "U"
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value, tf.string if is_text else value.dtype))
    return PredictionLog(predict_log=PredictLog(request=request))
