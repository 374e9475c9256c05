"""The query tower in TFLite's format, quantized to int8: a quarter of the size, for one query at a time."""

import warnings

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.lite.python.convert import ConverterError

from recsys.dataset import Features
from recsys.errors import BundleError
from serving.query_tower.portable import round_tables


def convert(tower: tf.keras.Model) -> bytes:
    """Returns a portable tower as a TFLite model with the signature `serving_default`: inputs by name → `embedding`.

    The tower's tables are rounded, too. Inputs have a batch axis of 1. Embedding tables and the weights of dense layers
    are int8, their activations int8 by each query's own range ("dynamic range quantization"). It needs no operation
    beyond TFLite's own.

    Raises:
      BundleError: TFLite lacks an operation of the tower.
    """
    round_tables(tower)

    def embed(**features: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"embedding": tower(features, training=False)}

    specs = {
        name: tf.TensorSpec([1, *tensor.shape[1:]], tensor.dtype, name=name) for name, tensor in tower.input.items()
    }
    traced = tf.function(embed).get_concrete_function(**specs)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], tower)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    try:
        return bytes(converter.convert())
    except ConverterError as error:
        reason = str(error).strip().splitlines()[0]
        raise BundleError(f"the query tower cannot be written as TFLite ({reason}); leave --tflite away") from error


def embed(content: bytes, features: Features) -> npt.NDArray[np.float32]:
    """Returns what a converted tower answers to queries, one after the other: [num_queries, embedding_dim] float32."""
    with warnings.catch_warnings():
        # TensorFlow 2.20 has it still; its successor is a package of its own.
        warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated", UserWarning)
        interpreter = tf.lite.Interpreter(model_content=content)
    run = interpreter.get_signature_runner()
    number = len(next(iter(features.values())))
    queries = ({name: values[row : row + 1] for name, values in features.items()} for row in range(number))
    return np.concatenate([run(**query)["embedding"] for query in queries])
