"""What a model's signatures take and give, and what of a request fits them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap

from serving.server.messages import Tensors
from serving.server.status import Code, ServingError, invalid

DEFAULT = "serving_default"
STRING = "string"

_DTYPES = {
    types_pb2.DT_STRING: STRING,
    types_pb2.DT_FLOAT: "float32",
    types_pb2.DT_DOUBLE: "float64",
    types_pb2.DT_INT32: "int32",
    types_pb2.DT_INT64: "int64",
    types_pb2.DT_BOOL: "bool",
}


@dataclass(frozen=True)
class Spec:
    """A tensor of a signature.

    Attributes:
      dtype: `string`, or a NumPy name.
      shape: None is any size.
    """

    dtype: str
    shape: tuple[int | None, ...]

    @property
    def is_batched(self) -> bool:
        """Whether the first axis is a batch of any size."""
        return bool(self.shape) and self.shape[0] is None

    def fits(self, value: Any) -> bool:
        """Whether an array has this dtype and shape."""
        return value.dtype == numpy_dtype(self.dtype) and self.allows(value.shape)

    def allows(self, shape: Sequence[int]) -> bool:
        """Whether it has as many axes, each of a size that is right."""
        sizes = zip(shape, self.shape, strict=False)
        return len(shape) == len(self.shape) and all(b in (a, None) for a, b in sizes)

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join('any' if size is None else str(size) for size in self.shape)}]"


@dataclass(frozen=True)
class Signature:
    """What can be called: its inputs and outputs by name."""

    name: str
    inputs: dict[str, Spec]
    outputs: dict[str, Spec]

    @property
    def can_share_calls(self) -> bool:
        """Whether rows of several requests may be put together and their answers taken apart."""
        inputs = (spec.is_batched or not spec.shape for spec in self.inputs.values())
        return all(inputs) and all(spec.is_batched for spec in self.outputs.values())

    def require_inputs(self, inputs: Tensors) -> int:
        """Checks names, dtypes, shapes and equal batches, and returns the rows.

        Raises:
          ServingError: INVALID_ARGUMENT, with the first thing that is wrong.
        """
        missing, extra = sorted(self.inputs.keys() - inputs.keys()), sorted(inputs.keys() - self.inputs.keys())
        if missing or extra:
            raise invalid(
                f"inputs do not match signature {self.name}: missing {missing or 'none'}, not known {len(extra)}; "
                f"expected {', '.join(sorted(self.inputs))}"
            )
        for name, spec in self.inputs.items():
            if not spec.fits(inputs[name]):
                received = Spec(STRING if inputs[name].dtype == object else inputs[name].dtype.name, inputs[name].shape)
                raise invalid(f"input {name}: expected {spec}, received {received}")
        rows = {inputs[name].shape[0] for name, spec in self.inputs.items() if spec.is_batched}
        if len(rows) > 1:
            raise invalid(f"inputs have unequal batch dimensions: {', '.join(map(str, sorted(rows)))}")
        return rows.pop() if rows else 1

    def require_outputs(self, names: list[str]) -> None:
        """Checks a filter of outputs.

        Raises:
          ServingError: INVALID_ARGUMENT, one is unknown or repeated.
        """
        known = ", ".join(sorted(self.outputs))
        for name in names:
            if name not in self.outputs:
                raise invalid(f"output {name[:64]!r} is not known: signature {self.name} has {known}")
        if len(names) != len(set(names)):
            raise invalid(f"an output is named twice: expected each of {known} at most once")


def read_signatures(signature_defs: SignatureDefMap) -> dict[str, Signature]:
    """Returns what can be called; TensorFlow's own, whose names begin with underscores, cannot."""
    return {
        name: Signature(name, _specs(definition.inputs), _specs(definition.outputs))
        for name, definition in signature_defs.signature_def.items()
        if not name.startswith("__")
    }


def _specs(tensors: Any) -> dict[str, Spec]:
    return {
        name: Spec(_DTYPES[info.dtype], tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim))
        for name, info in sorted(tensors.items())  # a protobuf map has no order
    }


def find(signatures: dict[str, Signature], name: str) -> Signature:
    """Returns a signature, the default one for the empty name.

    Raises:
      ServingError: FAILED_PRECONDITION, there is none of that name.
    """
    signature = signatures.get(name or DEFAULT)
    if signature is None:
        raise ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{name[:64]}" not found.')
    return signature


def numpy_dtype(dtype: str) -> Any:
    """Returns the dtype of arrays for a `Spec`'s."""
    return np.dtype(object) if dtype == STRING else np.dtype(dtype)
