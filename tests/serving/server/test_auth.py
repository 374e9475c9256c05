"""Who is let in by a file of tokens."""

from pathlib import Path

import pytest

from recsys.errors import ConfigError
from serving.server.auth import Gatekeeper, Scope
from serving.server.status import ServingError

UNKNOWN = "expected a known token: Authorization: Bearer <token>"


@pytest.mark.parametrize(
    ("authorization", "scope", "outcome"),
    [
        ("Bearer the-token", Scope.PREDICT, None),
        ("bearer  another-token ", Scope.PREDICT, None),
        ("Bearer the-admin-token", Scope.PREDICT, None),
        ("Bearer the-admin-token", Scope.ADMIN, None),
        ("Bearer the-token", Scope.ADMIN, ("PERMISSION_DENIED", "the token does not have the admin scope")),
        ("Bearer the-toke", Scope.PREDICT, ("UNAUTHENTICATED", UNKNOWN)),
        ("Bearer the-token2", Scope.PREDICT, ("UNAUTHENTICATED", UNKNOWN)),
        ("Bearer wörong", Scope.ADMIN, ("UNAUTHENTICATED", UNKNOWN)),
        ("Basic the-token", Scope.PREDICT, ("UNAUTHENTICATED", UNKNOWN)),
        ("the-token", Scope.PREDICT, ("UNAUTHENTICATED", UNKNOWN)),
        ("Bearer", Scope.PREDICT, ("UNAUTHENTICATED", UNKNOWN)),
        ("", Scope.ADMIN, ("UNAUTHENTICATED", UNKNOWN)),
    ],
)
def test_a_token_admits_to_its_scope(
    tokens: Path, authorization: str, scope: Scope, outcome: tuple[str, str] | None
) -> None:
    received = None
    try:
        Gatekeeper(tokens).admit(authorization, scope)
    except ServingError as error:
        received = (error.code.name, str(error))
    assert received == outcome


def test_without_a_file_everybody_predicts_and_nobody_administrates() -> None:
    Gatekeeper(None).admit("", Scope.PREDICT)
    with pytest.raises(ServingError) as error:
        Gatekeeper(None).admit("Bearer the-admin-token", Scope.ADMIN)
    assert str(error.value) == "the server has no admin tokens: start it with security.tokens"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('predict = ["a", ""]', "{file}: a token is empty: expected long random text"),
        ('predict = ["a"]\nadmin = [""]', "{file}: a token is empty: expected long random text"),
    ],
)
def test_an_empty_token_is_refused(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(content)
    with pytest.raises(ConfigError) as error:
        Gatekeeper(file)
    assert str(error.value) == message.format(file=file)


@pytest.mark.parametrize("content", ["", "predict = []", 'predict = ["a"]\nroot = ["b"]', "predict = [", None])
def test_a_file_that_is_not_one_of_tokens_is_refused(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "tokens.toml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError) as error:
        Gatekeeper(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)
