"""TensorFlow Serving's two request formats, rows and columns."""

import base64
from typing import Any

from serving.server.messages import Tensors
from serving.server.rest.answers import json_type
from serving.server.rest.nested import to_array
from serving.server.signatures import Signature
from serving.server.status import invalid


class PredictRequest:
    """The body of a `:predict`.

    Attributes:
      signature_name: empty for the default.
      is_rows: whether it came, and is answered, row by row.
    """

    def __init__(self, body: dict[str, Any]) -> None:
        """Takes the parsed JSON.

        Raises:
          ServingError: INVALID_ARGUMENT, it is not one of the formats.
        """
        name = body.get("signature_name", "")
        if not isinstance(name, str):
            raise invalid(f"signature_name: expected a string, received {json_type(name)}")
        if ("instances" in body) == ("inputs" in body):
            raise invalid("expected exactly one of 'instances' (rows) and 'inputs' (columns)")
        self.signature_name: str = name
        self.is_rows = "instances" in body
        self._content: Any = body["instances" if self.is_rows else "inputs"]

    def inputs(self, signature: Signature) -> Tensors:
        """Returns the arrays.

        Raises:
          ServingError: INVALID_ARGUMENT, an input is missing, unknown, ragged or of another type.
        """
        columns = self._columns_of_rows(signature) if self.is_rows else self._columns(signature)
        return {name: to_array(name, value, signature.inputs[name]) for name, value in columns.items()}

    def _columns(self, signature: Signature) -> dict[str, Any]:
        names = signature.inputs.keys()
        if not isinstance(self._content, dict) or (len(names) == 1 and self._content.keys() == {"b64"}):
            return _only(signature, self._content)
        _require_names(signature, self._content, "inputs")
        return self._content

    def _columns_of_rows(self, signature: Signature) -> dict[str, Any]:
        rows = self._content
        if not isinstance(rows, list) or not rows:
            raise invalid("'instances': expected a non-empty array")
        scalars = [name for name, spec in signature.inputs.items() if not spec.shape]
        if scalars:
            raise invalid(
                f"signature {signature.name} takes {', '.join(scalars)} once for all rows: send 'inputs' (columns)"
            )
        if not isinstance(rows[0], dict) or rows[0].keys() == {"b64"}:
            return _only(signature, rows)
        for row in rows:
            if not isinstance(row, dict):
                raise invalid(f"'instances': expected objects only, received {json_type(row)}")
            _require_names(signature, row, "instances")
        return {name: [row[name] for row in rows] for name in signature.inputs}


def _only(signature: Signature, value: Any) -> dict[str, Any]:
    if len(signature.inputs) != 1:
        raise invalid(f"expected the named inputs {', '.join(sorted(signature.inputs))}")
    return {next(iter(signature.inputs)): value}


def _require_names(signature: Signature, given: dict[str, Any], where: str) -> None:
    if given.keys() != signature.inputs.keys():
        missing = sorted(signature.inputs.keys() - given.keys())
        raise invalid(
            f"{where}: expected the inputs {', '.join(sorted(signature.inputs))}; "
            f"missing {', '.join(missing) or 'none'}, not known {len(given.keys() - signature.inputs.keys())}"
        )


def predict_answer(outputs: Tensors, is_rows: bool) -> dict[str, Any]:
    """Returns an answer in the request's format; of a single output the name is dropped.

    Raises:
      ServingError: INVALID_ARGUMENT, rows are asked for, and the outputs do not have one of each for a row.
    """
    batches = {value.shape[:1] for value in outputs.values()}
    if is_rows and (len(batches) > 1 or () in batches):
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in outputs.items())
        raise invalid(f"outputs have unequal batch dimensions ({shapes}): send 'inputs' (columns)")
    columns = {name: _jsonable(name, value) for name, value in outputs.items()}
    if not is_rows:
        return {"outputs": next(iter(columns.values())) if len(columns) == 1 else columns}
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    rows = zip(*columns.values(), strict=True)
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}


def _jsonable(name: str, value: Any) -> Any:
    """Lists; strings are text, or base64 where the output's name ends in `_bytes`, as in TensorFlow Serving."""
    if value.dtype != object:
        return value.tolist() if value.ndim == 0 else list(value)
    return _texts(value.tolist(), as_base64=name.endswith("_bytes"))


def _texts(value: Any, as_base64: bool) -> Any:
    if isinstance(value, list):
        return [_texts(element, as_base64) for element in value]
    return {"b64": base64.b64encode(value).decode()} if as_base64 else value.decode(errors="replace")
