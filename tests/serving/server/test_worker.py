"""What a model's process makes of a graph that raises."""

from typing import Any

import grpc
import pytest
import tensorflow as tf

from serving.server.messages import Answer, Ask, Failed
from serving.server.worker import call

BY_REQUEST, BY_MODEL = "the model cannot answer these inputs", "the model failed"


@pytest.mark.parametrize(
    ("raised", "code", "reason"),
    [
        (ValueError, "INVALID_ARGUMENT", BY_REQUEST),
        (StopIteration, "OUT_OF_RANGE", BY_REQUEST),
        (MemoryError, "RESOURCE_EXHAUSTED", BY_MODEL),
        (NotImplementedError, "UNIMPLEMENTED", BY_MODEL),
        (RuntimeError, "INTERNAL", BY_MODEL),
    ],
)
def test_what_a_graph_raises_keeps_its_code(raised: type[Exception], code: str, reason: str) -> None:
    def fail() -> Any:
        raise raised("/home/somebody/secret")

    @tf.function
    def signature() -> dict[str, tf.Tensor]:
        # TensorFlow gives these exceptions of Python the codes of its own errors.
        return {"scores": tf.numpy_function(fail, [], tf.float32)}

    failed = call(signature, Ask("recommend", {}))
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.code.name) == (reason, code)
    assert failed.code.number == grpc.StatusCode[code].value[0]


def test_a_call_that_cannot_even_begin_is_the_models_fault() -> None:
    failed = call(lambda: None, Ask("recommend", {}))
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.code.name) == (BY_MODEL, "INTERNAL")


def test_a_call_gives_arrays() -> None:
    answer = call(lambda: {"scores": tf.constant([1.5])}, Ask("recommend", {}))
    assert isinstance(answer, Answer)
    assert answer.outputs["scores"].tolist() == [1.5]
