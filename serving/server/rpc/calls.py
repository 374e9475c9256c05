"""What happens around every gRPC call: its token, its errors, its metrics, its line in the log."""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from serving.server.auth import Gatekeeper, Scope
from serving.server.logs import REQUEST_ID, current_request_id, request_id
from serving.server.metrics import Metrics
from serving.server.status import Code, ServingError, invalid

_LOG = logging.getLogger("recsys.serving.grpc")

_CODES = {code.value[0]: code for code in grpc.StatusCode}

# Takes the request and the seconds that the client has left, None when it sets no deadline.
Handler = Callable[[Any, float | None], Awaitable[Message]]


class Calls:
    """Makes gRPC methods of handlers."""

    def __init__(self, gatekeeper: Gatekeeper, metrics: Metrics, is_model: Callable[[str], bool]) -> None:
        """Takes who is let in, what is counted, and what a model's name is."""
        self._gatekeeper, self._metrics, self._is_model = gatekeeper, metrics, is_model

    def method(
        self, name: str, request_type: type[Message], handler: Handler, scope: Scope = Scope.PREDICT
    ) -> grpc.RpcMethodHandler:
        """Returns a unary method. The request is parsed here: one that is no message is the client's mistake."""

        async def call(content: bytes, context: grpc.aio.ServicerContext) -> bytes:
            started = time.perf_counter()
            request = request_type()
            status = "CANCELLED"  # unless it comes to an end: the client may go away, or its time be over
            metadata = _metadata(context)
            identity = request_id(metadata.get(REQUEST_ID, ""))
            current_request_id.set(identity)
            context.set_trailing_metadata(((REQUEST_ID, identity),))
            try:
                self._gatekeeper.admit(metadata.get("authorization", ""), scope)
                _parse(request, content)
                answer = await handler(request, context.time_remaining())
                reply = bytes(answer.SerializeToString())
                status = "OK"
                return reply
            except ServingError as error:
                status = error.code.name
                await context.abort(_CODES[error.code.number], str(error))
            except Exception:
                status = Code.INTERNAL.name
                _LOG.exception("a call failed", extra={"request_id": identity})
                await context.abort(grpc.StatusCode.INTERNAL, "the server failed")
            finally:
                self._record(name, identity, request, status, time.perf_counter() - started)
            raise AssertionError("abort raises")

        return grpc.unary_unary_rpc_method_handler(call)

    def _record(self, name: str, identity: str, request: Any, status: str, seconds: float) -> None:
        spec = getattr(request, "model_spec", None)
        model = spec.name if spec is not None and self._is_model(spec.name) else ""
        self._metrics.requests.labels("grpc", name, model, status).inc()
        self._metrics.seconds.labels("grpc", name).observe(seconds)
        extra = {"request_id": identity, "method": name, "model": model, "status": status}
        _LOG.info("call", extra=extra | {"ms": round(seconds * 1e3, 2)})


def _metadata(context: grpc.aio.ServicerContext) -> dict[str, str]:
    """What a client sent beside the message, less what is binary."""
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _parse(request: Message, content: bytes) -> None:
    try:
        request.ParseFromString(content)
    except DecodeError as error:
        raise invalid("the request is not a message of its type") from error
