"""Structured logs: one JSON object a line, on stderr."""

import logging
import sys

from pythonjsonlogger.orjson import OrjsonFormatter

_FIELDS = "{asctime}{levelname}{name}{message}"


def log_as_json() -> None:
    """Makes every log of this process a line of JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        OrjsonFormatter(_FIELDS, style="{", rename_fields={"asctime": "time", "levelname": "level", "name": "logger"})
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("recsys").setLevel(logging.INFO)
