"""TensorFlow Serving's canonical codes, as REST and gRPC tell them."""

import json

import grpc
import pytest

from serving.server.rest.answers import refusal
from serving.server.status import Code, ServingError

# From the contract; INTERNAL and above are the server's fault.
HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


@pytest.mark.parametrize(("name", "status"), HTTP_STATUS.items())
def test_a_refusal_has_the_codes_http_status_and_a_body_of_json(name: str, status: int) -> None:
    answer = refusal(ServingError(Code[name], "what is wrong"))
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert json.loads(bytes(answer.body)) == {"error": "what is wrong"}


def test_codes_have_grpcs_numbers_and_there_are_no_others() -> None:
    assert {code.name for code in Code} == set(HTTP_STATUS)
    for code in Code:
        assert code.number == grpc.StatusCode[code.name].value[0]
        assert Code.numbered(code.number) is code
    assert Code.numbered(grpc.StatusCode.DATA_LOSS.value[0]) is Code.INTERNAL
