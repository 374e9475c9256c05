"""A real server on loopback, and how tests publish versions."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

ADMIN = {"authorization": "Bearer the-admin-token"}
_STARTING_SECONDS = 60


class Server:
    """`recsys serve` in a process of its own, on free ports, with its log in a file."""

    def __init__(self, models: Path, log: Path, *settings: str, headers: dict[str, str] | None = None) -> None:
        options = [part for setting in settings for part in ("--set", setting)]
        ports = ["--set", "network.rest_port=0", "--set", "network.grpc_port=0"]
        self._log_path = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "recsys.cli", "serve", str(models), *ports, *options],
                stdout=subprocess.DEVNULL,
                stderr=file,
                env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            )
        self._wait(lambda: self.events("listening"))
        listening = self.events("listening")[0]
        self.rest = f"http://127.0.0.1:{listening['rest_port']}"
        self.grpc = f"127.0.0.1:{listening['grpc_port']}"
        self.http = httpx.Client(base_url=self.rest, timeout=30, headers=headers)
        self._wait(lambda: self.http.get("/readyz").status_code == 200)

    def _wait(self, is_so: Any) -> None:
        until = time.monotonic() + _STARTING_SECONDS
        while not is_so():
            late = time.monotonic() > until
            if late or self.process.poll() is not None:
                self.process.kill()
                raise AssertionError(self._log_path.read_text()[-5000:])
            time.sleep(0.05)

    def log(self) -> list[dict[str, Any]]:
        """The lines of the log so far; every one is a JSON object."""
        whole, _, _ = self._log_path.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.split("\n") if line]

    def events(self, message: str) -> list[dict[str, Any]]:
        return [line for line in self.log() if line["message"] == message]

    def line_of(self, request_id: str) -> dict[str, Any]:
        """The log's line about a request, which may follow the answer."""
        self._wait(lambda: self._lines_of(request_id))
        [line] = self._lines_of(request_id)
        return line

    def _lines_of(self, request_id: str) -> list[dict[str, Any]]:
        return [line for line in self.log() if line.get("request_id") == request_id]

    def statuses(self, model: str = "tiny") -> dict[str, str]:
        """The state of each version."""
        answer = self.http.get(f"/v1/models/{model}").json()
        return {entry["version"]: entry["state"] for entry in answer.get("model_version_status", [])}

    def wait_for(self, version: int, state: str, model: str = "tiny") -> None:
        self._wait(lambda: self.statuses(model).get(str(version)) == state)

    def stop(self) -> int:
        """Ends it as a supervisor does, and returns its exit code."""
        self.http.close()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def publish(models: Path, version: int, change: Callable[[Path], object] | None = None) -> Path:
    """Publishes a copy of version 1, as `recsys export` does: aside, then renamed; `change` works on the copy."""
    partial, final = models / f".{version}.partial-test", models / str(version)
    shutil.copytree(models / "1", partial)
    if change is not None:
        change(partial)
    sign(partial, models.name, version)
    partial.rename(final)
    return final


def sign(bundle: Path, name: str, version: int) -> None:
    """Makes the record fit a bundle whose files or place were changed, as if it had been exported so."""
    file = bundle / "assets.extra" / "bundle.json"
    record = json.loads(file.read_text())
    files = {path.relative_to(bundle).as_posix(): path for path in bundle.rglob("*") if path.is_file()}
    del files["assets.extra/bundle.json"]
    record |= {"name": name, "version": version}
    record["files"] = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    record.pop("sha256")
    record["sha256"] = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    file.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")


def children(pid: int) -> list[int]:
    """The processes that a process has started, by any of its threads."""
    return [int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()]
