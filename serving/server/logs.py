"""Structured logs: one JSON object a line, on stderr; a request's lines bear its id."""

import contextvars
import logging
import re
import sys
import uuid

from pythonjsonlogger.orjson import OrjsonFormatter

REQUEST_ID = "x-request-id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# Of the request that the current task answers.
current_request_id: contextvars.ContextVar[str] = contextvars.ContextVar("current_request_id", default="")
_FIELDS = "{asctime}{levelname}{name}{message}"


def log_as_json() -> None:
    """Makes every log of this process a line of JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        OrjsonFormatter(_FIELDS, style="{", rename_fields={"asctime": "time", "levelname": "level", "name": "logger"})
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # What no line shows need not be found out for each; named by Python's "Logging HOWTO", under optimization.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root.setLevel(logging.WARNING)
    logging.getLogger("recsys").setLevel(logging.INFO)


def request_id(given: str) -> str:
    """Returns the id that a client gave, or a new one where that is none or would not be plain in a log."""
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
