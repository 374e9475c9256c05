"""Arrays from and to `TensorProto`."""

import math
from typing import Any

import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.server.status import invalid

# A proto may declare any shape around a single value, which TensorFlow repeats.
_MAX_ELEMENTS = 1 << 20

# The field of a proto that holds the values of a dtype.
_FIELDS = {
    types_pb2.DT_BOOL: "bool_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_INT32: "int_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_STRING: "string_val",
}


def from_proto(name: str, proto: tensor_pb2.TensorProto) -> npt.NDArray[Any]:
    """Returns an input as an array; strings are objects.

    Raises:
      ServingError: INVALID_ARGUMENT, the proto is not a tensor.
    """
    sizes = [dim.size for dim in proto.tensor_shape.dim]
    if proto.dtype not in _FIELDS:
        raise invalid(f"input {name[:64]}: its dtype, number {proto.dtype}, is not supported")
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in sizes) or math.prod(sizes) > _MAX_ELEMENTS:
        raise invalid(f"input {name[:64]}: expected a shape of at most {_MAX_ELEMENTS} elements")
    try:
        return tf.make_ndarray(proto)
    except (TypeError, ValueError, IndexError) as error:
        raise invalid(f"input {name[:64]}: its values do not fit its dtype and shape") from error


def to_proto(value: npt.NDArray[Any]) -> tensor_pb2.TensorProto:
    """Returns an array as a proto, its values in the field of their dtype, as TensorFlow Serving answers.

    There are clients that read `float_val` and know nothing of `tensor_content`.
    """
    dtype = types_pb2.DT_STRING if value.dtype == object else tf.as_dtype(value.dtype).as_datatype_enum
    proto = tensor_pb2.TensorProto(dtype=dtype, **{_FIELDS[dtype]: value.ravel().tolist()})
    for size in value.shape:
        proto.tensor_shape.dim.add(size=size)
    return proto
