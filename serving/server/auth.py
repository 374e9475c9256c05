"""Bearer tokens, from a file."""

import hmac
from enum import Enum
from pathlib import Path

from pydantic import Field

from recsys.errors import ConfigError
from recsys.schema import Frozen
from recsys.toml_config import load_toml
from serving.server.status import Code, ServingError


class Scope(Enum):
    """What a request needs."""

    PREDICT = "predict"
    ADMIN = "admin"


class _Tokens(Frozen):
    predict: tuple[str, ...] = Field(min_length=1)
    admin: tuple[str, ...] = ()


class Gatekeeper:
    """Lets requests in by their `Authorization: Bearer …`; an admin token also predicts."""

    def __init__(self, file: Path | None) -> None:
        """Reads the tokens; without a file everybody may predict, and nobody administrate.

        Raises:
          ConfigError: the file is missing or is not as it should be.
        """
        tokens = None if file is None else load_toml(_Tokens, file)
        if tokens is not None and not all((*tokens.predict, *tokens.admin)):
            raise ConfigError(f"{file}: a token is empty: expected long random text")
        self._tokens = tokens

    def admit(self, authorization: str, scope: Scope) -> None:
        """Returns when the header's token has the scope.

        Raises:
          ServingError: UNAUTHENTICATED, there is no known token; PERMISSION_DENIED, it is for something else.
        """
        if self._tokens is None:
            if scope is Scope.ADMIN:
                raise ServingError(
                    Code.PERMISSION_DENIED, "the server has no admin tokens: start it with security.tokens"
                )
            return
        kind, _, token = authorization.partition(" ")
        given = token.strip().encode() if kind.lower() == "bearer" else b""
        is_admin = _is_among(given, self._tokens.admin)
        if not is_admin and not _is_among(given, self._tokens.predict):
            raise ServingError(Code.UNAUTHENTICATED, "expected a known token: Authorization: Bearer <token>")
        if scope is Scope.ADMIN and not is_admin:
            raise ServingError(Code.PERMISSION_DENIED, "the token does not have the admin scope")


def _is_among(given: bytes, tokens: tuple[str, ...]) -> bool:
    """Compares with every token, each in constant time."""
    return sum(hmac.compare_digest(given, token.encode()) for token in tokens) > 0
