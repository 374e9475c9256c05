"""What happens around every REST request: its id, its size, its token, its line in the log, its metrics."""

import logging
import time
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.server import auth
from serving.server.auth import Gatekeeper
from serving.server.logs import REQUEST_ID, current_request_id, request_id
from serving.server.metrics import Metrics
from serving.server.rest.answers import error_answer, refusal
from serving.server.rest.operations import ADMIN_PREFIX, OPEN_PATHS, OPEN_PREFIX
from serving.server.status import ServingError

_LOG = logging.getLogger("recsys.serving.rest")
_OK, _TOO_LARGE = 200, 413
_SECURITY_HEADERS = {"x-content-type-options": "nosniff", "cache-control": "no-store"}


class Gate:
    """An ASGI application around the one that answers."""

    def __init__(
        self, app: ASGIApp, gatekeeper: Gatekeeper, metrics: Metrics, body_bytes: int, is_model: Callable[[str], bool]
    ) -> None:
        """Takes what answers, who is let in, what is counted, how long a body may be, and what a model's name is."""
        self._app, self._gatekeeper, self._metrics = app, gatekeeper, metrics
        self._body_bytes, self._is_model = body_bytes, is_model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request; passes the start and end of the server on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        identity = request_id(headers.get(REQUEST_ID, ""))
        current_request_id.set(identity)
        outgoing = _Outgoing(send, identity)
        try:
            await self._admitted(scope, headers)(scope, self._bounded(receive), outgoing)
        except Exception:
            # The application has told the client, if it still could; nobody else will tell the operator.
            _LOG.exception("a request failed", extra={"request_id": identity})
        finally:
            self._record(scope, identity, outgoing.status, time.perf_counter() - started)

    def _admitted(self, scope: Scope, headers: Headers) -> ASGIApp:
        """What answers: the application, or a refusal."""
        path = scope["path"]
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._body_bytes:
            return error_answer(f"the body is too large: expected at most {self._body_bytes} bytes", _TOO_LARGE)
        if path not in OPEN_PATHS and not path.startswith(OPEN_PREFIX):
            needed = auth.Scope.ADMIN if path.startswith(ADMIN_PREFIX) else auth.Scope.PREDICT
            try:
                self._gatekeeper.admit(headers.get("authorization", ""), needed)
            except ServingError as error:
                return refusal(error)
        return self._app

    def _bounded(self, receive: Receive) -> Receive:
        """Counts the bytes of a body that does not tell its length."""
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._body_bytes:
                raise HTTPException(_TOO_LARGE, f"the body is too large: expected at most {self._body_bytes} bytes")
            return message

        return bounded

    def _record(self, scope: Scope, identity: str, status: int, seconds: float) -> None:
        method = _method(scope)
        model = scope.get("path_params", {}).get("model") or scope.get("state", {}).get("model", "")
        model = model if self._is_model(model) else ""
        self._metrics.requests.labels("rest", method, model, str(status)).inc()
        self._metrics.seconds.labels("rest", method).observe(seconds)
        extra: dict[str, Any] = {
            "request_id": identity,
            "method": scope["method"],
            "path": scope["path"][:256],
            "model": model,
            "status": status,
            "ms": round(seconds * 1e3, 2),
        }
        # Supervisors ask every second; only what goes wrong there is worth a line.
        usual = scope["path"] in OPEN_PATHS and status == _OK
        _LOG.log(logging.DEBUG if usual else logging.INFO, "request", extra=extra)


class _Outgoing:
    """Notes the status, and adds the headers that every answer has."""

    def __init__(self, send: Send, identity: str) -> None:
        self._send, self._identity = send, identity
        self.status = 499  # the client went away before there was one

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID] = self._identity
            for name, value in _SECURITY_HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)


def _method(scope: Scope) -> str:
    """The verb and path of what is served; a client's own are never a metric's label."""
    route, verb = scope.get("route"), scope["method"]
    return f"{verb} {route.path}" if isinstance(route, Route) and verb in (route.methods or ()) else "other"
