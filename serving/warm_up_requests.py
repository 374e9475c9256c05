"""The requests that a bundle brings along, for a server to make before its clients do.

TensorFlow Serving's format: a TFRecord of `PredictionLog`. Our own server replays the same file.
"""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog, PredictLog

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
    number = np.int32(k)
    with tf.io.TFRecordWriter(str(folder / WARM_UP_REQUESTS)) as writer:
        for size in _BATCH_SIZES:
            user_id, item_id = (np.resize(np.asarray(ids, object), size) for ids in (users, items))
            nothing, history = np.full([size, 0], "", object), item_id[:, np.newaxis]
            asked = {"user_id": user_id, "history": nothing, "exclude": nothing, "k": number}
            options = {"categories": nothing, "leaves": np.int32(0), "reorder_factor": np.int32(0)}
            requests: list[tuple[str, dict[str, Any]]] = [
                ("serving_default", {"user_id": user_id}),
                ("recommend", asked),
                ("recommend", asked | {"history": history}),
                ("recommend_exactly", asked),
                ("recommend_with_options", asked | options),
                ("embed_query", {"user_id": user_id, "history": history}),
                ("similar_items", {"item_id": item_id, "k": number}),
                ("explain", {"user_id": user_id, "history": history, "item_id": item_id, "k": number}),
            ]
            for signature, inputs in requests:
                writer.write(_log(signature, inputs).SerializeToString())


def _log(signature: str, inputs: dict[str, Any]) -> PredictionLog:
    request = PredictRequest()
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        is_text = isinstance(value, np.ndarray)
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value, tf.string if is_text else tf.int32))
    return PredictionLog(predict_log=PredictLog(request=request))
