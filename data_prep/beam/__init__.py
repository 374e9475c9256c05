"""Preparation on many workers with Apache Beam: the same rows, ids and bytes as on one machine.

Only this package imports Beam, which is an extra: call `require_beam` before importing one of its modules.
"""

import logging

from recsys.errors import ConfigError


def require_beam() -> None:
    """Imports Beam, without the remarks that it logs about optional parts.

    Raises:
      ConfigError: it is not installed.
    """
    root = logging.getLogger()
    # A remark to a root logger without handlers would give it one, for everybody.
    silence = logging.NullHandler()
    root.addHandler(silence)
    root.addFilter(_is_no_remark)
    try:
        import apache_beam  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"--engine beam needs Apache Beam ({error}): pip install 'recsys[beam]'") from error
    finally:
        root.removeFilter(_is_no_remark)
        root.removeHandler(silence)


def _is_no_remark(record: logging.LogRecord) -> bool:
    return record.levelno > logging.WARNING
