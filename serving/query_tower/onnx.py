"""The query tower in ONNX's format, in float32, for batches of any size."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from recsys.dataset import Features
from recsys.errors import BundleError, ConfigError

# Has all that towers need, and is read by every ONNX Runtime since 1.10, of 2021, browsers' included.
_OPSET = 15


def require() -> None:
    """Imports what converts and runs.

    Raises:
      ConfigError: it is not installed.
    """
    try:
        import onnxruntime  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"--onnx needs tf2onnx and onnxruntime ({error}): pip install 'recsys[onnx]'") from error


def convert(tower: tf.keras.Model) -> bytes:
    """Returns a portable tower as an ONNX model: its inputs by name, [batch, …] each → `embedding`, [batch, dim].

    Raises:
      BundleError: ONNX lacks an operation of the tower.
    """
    import onnx
    import tf2onnx

    def embed(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {"embedding": tower(features, training=False)}

    specs = {
        name: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype, name=name) for name, tensor in tower.input.items()
    }
    model, _ = tf2onnx.convert.from_function(tf.function(embed), input_signature=[specs], opset=_OPSET)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    try:
        onnx.checker.check_model(model)  # tf2onnx leaves operations that it cannot translate as they are
    except onnx.checker.ValidationError as error:
        reason = str(error).strip().splitlines()[0]
        raise BundleError(f"the query tower cannot be written as ONNX ({reason}); leave --onnx away") from error
    content: bytes = model.SerializeToString()
    return content


def embed(content: bytes, features: Features) -> npt.NDArray[np.float32]:
    """Returns what a converted tower answers to queries: [num_queries, embedding_dim] float32."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    embeddings: npt.NDArray[np.float32]
    [embeddings] = session.run(["embedding"], features)
    return embeddings
