"""Answers in rows and columns, of outputs that no bundle of ours has."""

import json
from typing import Any

import numpy as np
import pytest

from serving.server.rest.answers import json_answer
from serving.server.rest.predict_json import predict_answer
from serving.server.status import ServingError


def answered(outputs: dict[str, Any], is_rows: bool) -> Any:
    return json.loads(bytes(json_answer(predict_answer(outputs, is_rows)).body))


SCORES = np.array([[0.5, 1.5], [2.5, 3.5]], np.float32)
RAW = np.array([b"\x00\xff", b"a"], object)


def test_rows_and_columns_hold_the_same_values() -> None:
    outputs = {"scores": SCORES, "raw_bytes": RAW}
    encoded = [{"b64": "AP8="}, {"b64": "YQ=="}]
    assert answered(outputs, is_rows=False) == {"outputs": {"scores": SCORES.tolist(), "raw_bytes": encoded}}
    rows = [{"scores": [0.5, 1.5], "raw_bytes": encoded[0]}, {"scores": [2.5, 3.5], "raw_bytes": encoded[1]}]
    assert answered(outputs, is_rows=True) == {"predictions": rows}


def test_of_a_single_output_only_the_values_are_told() -> None:
    assert answered({"scores": SCORES}, is_rows=False) == {"outputs": SCORES.tolist()}
    assert answered({"scores": SCORES}, is_rows=True) == {"predictions": SCORES.tolist()}
    assert answered({"total": np.float32(2)}, is_rows=False) == {"outputs": 2.0}


@pytest.mark.parametrize(
    ("outputs", "shapes"),
    [
        ({"scores": SCORES, "names": RAW[:1]}, "scores [2, 2], names [1]"),
        ({"scores": SCORES, "total": np.float32(2)}, "scores [2, 2], total []"),
        ({"total": np.float32(2)}, "total []"),
    ],
)
def test_outputs_without_one_of_each_for_a_row_cannot_be_rows(outputs: dict[str, Any], shapes: str) -> None:
    with pytest.raises(ServingError) as error:
        predict_answer(outputs, is_rows=True)
    assert error.value.code.http_status == 400
    assert str(error.value) == f"outputs have unequal batch dimensions ({shapes}): send 'inputs' (columns)"
    predict_answer(outputs, is_rows=False)
