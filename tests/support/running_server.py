"""A real server on loopback, and how tests publish versions."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
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


def publish(models: Path, version: int) -> Path:
    """Publishes a copy of version 1, as `recsys export` does: aside, then renamed."""
    partial, final = models / f".{version}.partial-test", models / str(version)
    shutil.copytree(models / "1", partial)
    partial.rename(final)
    return final
