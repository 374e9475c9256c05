"""A server for the tests that only ask."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from running_server import Server


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of tokens."""
    file = tmp_path_factory.mktemp("tokens") / "tokens.toml"
    file.write_text('predict = ["the-token", "another-token"]\nadmin = ["the-admin-token"]\n')
    return file


@pytest.fixture(scope="session")
def server(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves version 1 of `tiny` to everybody."""
    started = Server(tiny_models, tmp_path_factory.mktemp("server") / "log")
    yield started
    assert started.stop() == 0
