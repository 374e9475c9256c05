"""Live recall: by hand, and of a real server."""

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from running_server import Server

from serving.server.shadow import recall

NONE_LEFT = np.finfo(np.float32).min


@pytest.mark.parametrize(
    ("found", "exact", "share"),
    [
        ([3, 2, 1], [3, 2, 1], 1),
        ([3, 1, 0.5], [3, 2, 1], 2 / 3),
        ([2, 1, NONE_LEFT], [3, 2, 1.5], 1 / 3),
        ([3, NONE_LEFT, NONE_LEFT], [3, NONE_LEFT, NONE_LEFT], 1),
        ([NONE_LEFT, NONE_LEFT], [NONE_LEFT, NONE_LEFT], 1),
        ([3, 2, 2], [3, 2, 2], 1),
        ([-1, -3], [-1, -2], 1 / 2),
    ],
)
def test_recall_is_the_share_of_the_exact_answer(found: list[float], exact: list[float], share: float) -> None:
    assert recall(np.array(found, np.float32), np.array(exact, np.float32)) == pytest.approx(share)


def live_recall(server: Server) -> tuple[float, float]:
    """The sum and the number of comparisons."""
    families = text_string_to_metric_families(server.http.get("/metrics").text)
    values = {
        sample.name: sample.value
        for family in families
        if family.name == "recsys_live_recall"
        for sample in family.samples
        if sample.labels == {"model": "tiny", "version": "1"}
    }
    return values["recsys_live_recall_sum"], values["recsys_live_recall_count"]


@pytest.fixture(scope="module")
def models(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copied = tmp_path_factory.mktemp("shadow") / "models"
    shutil.copytree(tiny_models / "tiny", copied / "tiny")
    return copied


def test_sampled_answers_are_compared_with_exact_ones_and_others_are_not(models: Path, tmp_path: Path) -> None:
    server = Server(models, tmp_path / "log", "monitoring.shadow_fraction=1")
    assert live_recall(server) == (0, 0)
    server.http.post("/similar", json={"item_id": "i3", "k": 5})
    until = time.monotonic() + 30
    while live_recall(server)[1] < 3:
        assert server.http.post("/recommend", json={"user_id": "u3", "k": 10}).status_code == 200
        assert time.monotonic() < until
    total, number = live_recall(server)
    assert total == number >= 3
    assert server.events("a request was not answered exactly") == []
    assert server.stop() == 0


def test_without_sampling_nothing_is_compared(models: Path, tmp_path: Path) -> None:
    server = Server(models, tmp_path / "log", "monitoring.shadow_fraction=0")
    for _ in range(20):
        assert server.http.post("/recommend", json={"user_id": "u3", "k": 10}).status_code == 200
    assert live_recall(server) == (0, 0)
    assert server.stop() == 0
