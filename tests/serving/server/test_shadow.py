"""Live recall: by hand, and of a real server."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from oracle import Oracle
from prometheus_client.parser import text_string_to_metric_families
from running_server import Server

from recsys.config import ExportConfig, IndexConfig
from recsys.run import Run
from serving.export import export
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
def starved(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model whose index looks at so few of its leaves that it misses much."""
    models = tmp_path_factory.mktemp("shadow")
    index = IndexConfig(brute_force_below=16, recall_target=0.6)
    export(tiny_run, models, "tiny", ExportConfig(index=index))
    return models


def share_found(oracle: Oracle, user: str, items: list[str]) -> float:
    """How many of the best items that a user has not taken are among 100 items, by NumPy."""
    order = np.argsort(-(oracle.candidates @ oracle.embed(user, [])))
    best = [item for item in np.array(oracle.items)[order] if item not in oracle.taken[user]][:100]
    return len(set(best) & set(items)) / 100


def mean_recall(server: Server, ask: Callable[[], object]) -> float:
    """The mean of some comparisons that are made while something is asked again and again."""
    total, number = live_recall(server)
    until = time.monotonic() + 30
    while live_recall(server)[1] < number + 4:
        assert time.monotonic() < until
        ask()
        time.sleep(0.02)  # one answer at a time is compared
    after, compared = live_recall(server)
    return (after - total) / (compared - number)


@pytest.mark.slow
def test_live_recall_is_that_of_the_index_and_of_nothing_else(starved: Path, tiny_run: Run, tmp_path: Path) -> None:
    server, oracle = Server(starved, tmp_path / "log", "monitoring.shadow_fraction=1"), Oracle(tiny_run)

    def recommended(user: str, **options: float) -> list[str]:
        answer = server.http.post("/recommend", json={"user_id": user, "k": 100} | options)
        return [item["item_id"] for item in answer.json()["items"]]

    def predicted(user: str) -> list[str]:
        answer = server.http.post("/v1/models/tiny:predict", json={"instances": [{"user_id": user}]})
        found: list[str] = answer.json()["predictions"][0]["item_ids"]
        return found

    def others() -> None:
        """What says nothing of the index as it is tuned: popular items, neighbours, another effort."""
        assert len(recommended("somebody new")) == len(predicted("somebody new")) == 100
        assert server.http.post("/similar", json={"item_id": "i3", "k": 5}).status_code == 200
        assert len(recommended(oracle.users[0], leaves=1000)) == 100

    for _ in range(10):
        others()
        time.sleep(0.02)
    assert live_recall(server) == (0, 0)
    user = next(user for user in oracle.users if share_found(oracle, user, recommended(user)) < 0.95)
    share = share_found(oracle, user, recommended(user))
    assert share_found(oracle, user, predicted(user)) == share
    assert share_found(oracle, user, recommended(user, leaves=1000, reorder_factor=1000.5)) == 1
    for ask in (recommended, predicted):
        assert mean_recall(server, lambda ask=ask: (others(), time.sleep(0.02), ask(user))) == pytest.approx(share)
    assert server.events("a request was not answered exactly") == []
    assert server.stop() == 0


@pytest.mark.slow
def test_without_sampling_nothing_is_compared(tiny_models: Path, tmp_path: Path) -> None:
    server = Server(tiny_models, tmp_path / "log", "monitoring.shadow_fraction=0")
    for _ in range(20):
        assert server.http.post("/recommend", json={"user_id": "u3", "k": 10}).status_code == 200
    assert live_recall(server) == (0, 0)
    assert server.stop() == 0
