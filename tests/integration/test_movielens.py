"""The README's main job on the real MovieLens latest-small, command by command, each in a process of its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from running_server import Server

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
# The shipped config takes up to 15 epochs; the figures in the README are those of all of them.
EPOCHS = 2


def readme_commands() -> dict[str, list[str]]:
    """The commands of the README's section "The main job", by verb."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## The main job")[1].split("\n\nWhat it")[0]
    lines = re.findall(r"^    (recsys .*)$", section, flags=re.MULTILINE)
    return {line.split()[1]: line.split()[1:] for line in lines}


def ask_the_server(folder: Path) -> str:
    """What `recsys serve models` answers to user 42."""
    server = Server(folder / "models", folder / "server.log")
    answer = server.http.post("/recommend", json={"user_id": "42", "k": 10})
    assert (answer.status_code, server.stop()) == (200, 0)
    return answer.text


@pytest.fixture(scope="module")
def outputs(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each command printed; all of them ran in a folder of their own."""
    folder = tmp_path_factory.mktemp("movielens")
    (folder / "experiments").symlink_to(ROOT / "experiments")
    environment = os.environ | {"TFDS_DATA_DIR": str(folder / "tfds")}
    printed = {}
    for verb, arguments in readme_commands().items():
        if verb == "serve":
            printed[verb] = ask_the_server(folder)
            continue
        arguments = [str(real_data / "movielens") if a == "../shared/data/movielens" else a for a in arguments]
        if verb == "train":
            arguments += ["--set", f"train.epochs={EPOCHS}", "--set", "train.max_validation_queries=500"]
        command = [sys.executable, "-m", "recsys.cli", *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{verb}: {done.stderr[-2000:]}"
        printed[verb] = done.stdout
    printed["manifest"] = (folder / "data" / "ml-small" / "manifest.json").read_text()
    printed["bundle"] = (folder / "models" / "ml-small" / "1" / "assets.extra" / "bundle.json").read_text()
    return printed


def test_the_readme_shows_the_main_job() -> None:
    assert list(readme_commands()) == ["prepare", "train", "evaluate", "export", "recommend", "serve"]


def test_prepare_finds_the_published_counts(outputs: dict[str, str]) -> None:
    """100,836 ratings of 9,742 movies by 610 users; at a 90 % cut 74 users test, of whom 20 were seen in train."""
    statistics = json.loads(outputs["manifest"])["statistics"]
    found = {name: statistics[name] for name in ("interactions", "items", "users", "test_users")}
    assert found == {"interactions": 100_836, "items": 9_742, "users": 610, "test_users": 74}
    assert statistics["test_users_seen_in_train"] == 20


@pytest.mark.parametrize("metric", ["recall@20", "ndcg@20"])
def test_two_epochs_beat_popularity_by_30_percent(outputs: dict[str, str], metric: str) -> None:
    rows = json.loads(outputs["evaluate"])["protocols"]["event"]["rows"]
    assert rows["two_tower"][metric]["mean"] > 1.3 * rows["popularity"][metric]["mean"]


def test_the_shipped_index_finds_95_percent_of_the_exact_answer(outputs: dict[str, str]) -> None:
    record = json.loads(outputs["bundle"])
    assert record["index_recall_k"] == 100
    assert record["index_recall"] >= 0.95


def test_recommend_shows_ten_titles(outputs: dict[str, str]) -> None:
    rows = [line for line in outputs["recommend"].splitlines() if re.match(r"\s*\d+  ", line)]
    assert len(rows) == 10
    assert all(re.search(r"\(\d{4}\)", row) for row in rows)


def test_the_server_gives_the_same_answer(outputs: dict[str, str]) -> None:
    answer = json.loads(outputs["serve"])
    assert (answer["model"], answer["version"], answer["known"]) == ("ml-small", 1, True)
    titles = [next(iter(item["shown"].values())) for item in answer["items"]]
    printed = " ".join(outputs["recommend"].split())
    assert len(titles) == 10
    assert all(" ".join(title.split()) in printed for title in titles)
