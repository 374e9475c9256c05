"""A version that is damaged in any way is refused by name, while the one before it goes on answering."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from running_server import Server, sign

RECORD = "assets.extra/bundle.json"
VARIABLES = ("variables/variables.data-00000-of-00001", "variables/variables.index")


def flip(name: str) -> Callable[[Path], None]:
    """Changes a byte in the middle of a file."""

    def damage(bundle: Path) -> None:
        content = bytearray((bundle / name).read_bytes())
        content[len(content) // 2] ^= 0x10
        (bundle / name).write_bytes(content)

    return damage


def remove(name: str) -> Callable[[Path], None]:
    return lambda bundle: (bundle / name).unlink()


def take_another_index(bundle: Path) -> None:
    """The twin's: a whole one, over the same items."""
    for name in VARIABLES:
        shutil.copy(bundle.parent / "exact" / "1" / name, bundle / name)


def be_the_twin(bundle: Path) -> None:
    """As a whole."""
    shutil.rmtree(bundle)
    shutil.copytree(bundle.parent / "exact" / "1", bundle)


def say(**changes: Any) -> Callable[[Path], None]:
    """Changes the record."""

    def damage(bundle: Path) -> None:
        record = json.loads((bundle / RECORD).read_text())
        (bundle / RECORD).write_text(json.dumps(record | changes, indent=2, sort_keys=True) + "\n")

    return damage


CHANGED, MISSING = "is not the file that was exported; export it again", "is missing; export it again"
THERE = "put it in its place or export it again"
INSTALLED = "installed are scann 1.4.2, tensorflow 2.20.0; install those or export it again"
DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a byte of the graph": (flip("saved_model.pb"), f"is damaged: saved_model.pb {CHANGED}"),
    "a byte of the index": (flip(VARIABLES[0]), f"is damaged: {VARIABLES[0]} {CHANGED}"),
    "a byte of the users": (flip("assets/users.txt"), f"is damaged: assets/users.txt {CHANGED}"),
    "a byte of the items": (flip("assets.extra/items.parquet"), f"is damaged: assets.extra/items.parquet {CHANGED}"),
    "a missing graph": (remove("saved_model.pb"), f"is damaged: saved_model.pb {MISSING}"),
    "a missing index": (remove(VARIABLES[1]), f"is damaged: {VARIABLES[1]} {MISSING}"),
    "a missing record": (remove(RECORD), f"is no bundle: {RECORD} {MISSING}"),
    "another model's index": (take_another_index, f"is damaged: {VARIABLES[0]} {CHANGED}"),
    "another model's bundle": (
        lambda bundle: sign(bundle, "other", 1),
        f"is the bundle other/1: expected tiny/{{version}}; {THERE}",
    ),
    "another version": (
        lambda bundle: sign(bundle, "tiny", 1),
        f"is the bundle tiny/1: expected tiny/{{version}}; {THERE}",
    ),
    "the twin": (be_the_twin, f"is the bundle tiny/exact/1: expected models/tiny/{{version}}; {THERE}"),
    "another format": (say(format_version=2), "has bundle format 2: expected 5; export it again"),
    "another TensorFlow": (
        say(versions={"scann": "1.4.2", "tensorflow": "2.19.0"}),
        f"was made by scann 1.4.2, tensorflow 2.19.0: {INSTALLED}",
    ),
    "a recall that nobody measured": (
        say(index_recall=1.0, index_recall_low=0.5),
        f"is damaged: {RECORD} is not as it was written; export it again",
    ),
}


@pytest.fixture(scope="module")
def models(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged") / "models"
    shutil.copytree(tiny_models / "tiny", folder / "tiny")
    return folder


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(models, tmp_path_factory.mktemp("damaged-log") / "log", "release.poll_seconds=0.05")
    yield started
    assert started.stop() == 0


def test_what_is_served_stays(server: Server, models: Path) -> None:
    """Damage after damage, each a newer version, while a client asks without a pause."""
    answers: list[httpx.Response] = []
    ended = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=server.rest, timeout=30) as client:
            while not ended.is_set():
                answers.append(client.post("/recommend", json={"user_id": "u3", "k": 5}))
                time.sleep(0.01)

    asking = threading.Thread(target=ask)
    asking.start()
    refused = {}
    for version, (name, (damage, _)) in enumerate(DAMAGES.items(), start=2):
        partial = models / "tiny" / f".{version}.partial-test"
        shutil.copytree(models / "tiny" / "1", partial)
        sign(partial, "tiny", version)
        damage(partial)
        partial.rename(models / "tiny" / str(version))
        server.wait_for(version, "END")
        status = server.http.get(f"/v1/models/tiny/versions/{version}").json()["model_version_status"][0]["status"]
        refused[name] = status["error_message"]
    ended.set()
    asking.join()
    assert refused == {
        name: f"tiny/{version} {complaint.format(version=version)}"
        for version, (name, (_, complaint)) in enumerate(DAMAGES.items(), start=2)
    }
    assert len(answers) > len(DAMAGES)
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["version"] for answer in answers} == {1}
    assert server.statuses()["1"] == "AVAILABLE"
    assert len({answer.text for answer in answers}) == 1
