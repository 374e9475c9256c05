"""A bundle for devices: what `--tflite` and `--onnx` add to it, used as the guide says."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from recsys.errors import BundleError
from recsys.interactions import load_interactions
from recsys.run import Run
from serving.bundle import Bundle, open_bundle
from serving.export import export
from serving.query_tower import files
from serving.recommend import recommend

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "devices.md"


@pytest.fixture(scope="module")
def published(twice_published: Path) -> Bundle:
    return open_bundle(twice_published / "tiny")


def test_the_files_are_covered_by_the_bundle_s_digests(published: Bundle) -> None:
    for name in ("query_tower.tflite", "query_tower.onnx", "query_tower.json", "users.parquet"):
        content = (published.path / "assets.extra" / name).read_bytes()
        assert published.record.files[f"assets.extra/{name}"] == hashlib.sha256(content).hexdigest()


def test_a_client_is_told_what_to_ask_and_how_well_it_is_answered(published: Bundle, tiny_run: Run) -> None:
    told = json.loads((published.path / "assets.extra" / "query_tower.json").read_text(encoding="utf-8"))
    assert told["inputs"] == {
        "history": {"dtype": "int32", "shape": [30], "num_oov": 1, "from": "candidates.parquet"},
        "user_id": {"dtype": "int32", "shape": [], "num_oov": 1, "from": "users.parquet"},
    }
    assert told["output"] == {"name": "embedding", "dtype": "float32", "shape": [16]}
    agreement = told["agreement"]
    assert 0.999 <= agreement["query_tower.tflite"]["smallest_cosine"] < 1
    assert 0 <= agreement["query_tower.onnx"]["largest_difference"] <= 1e-5
    interactions = load_interactions(tiny_run.dataset)
    users = set(interactions.user_row[interactions.split == 1].tolist())
    assert agreement["query_tower.tflite"]["queries"] == agreement["query_tower.onnx"]["queries"] == len(users)


def test_users_are_the_inputs_of_the_known_ones(published: Bundle, tiny_run: Run) -> None:
    users = tiny_run.dataset.users.to_pandas()
    found = pd.read_parquet(published.path / "assets.extra" / "users.parquet")
    pd.testing.assert_frame_equal(found, users[["user", "user_id"]])


def test_the_guide_s_program_gives_what_the_bundle_answers(published: Bundle) -> None:
    [program] = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    program = program.replace("models/ml-small/1/", f"{published.path}/").replace('["1", "3114"]', '["i3", "i14"]')
    ran: dict[str, Any] = {}
    exec(compile(program, GUIDE.name, "exec"), ran)  # noqa: S102
    answer = recommend(published, "somebody new", 10, history=("i3", "i14"))
    assert ran["best"].tolist() == [item["item_id"] for item in answer["items"]]


def test_the_guide_names_every_file_and_no_other(published: Bundle) -> None:
    named = re.findall(r"^\| `([\w.]+)` \|", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    others = {"bundle.json", "index_report.html", "items.parquet", "tf_serving_warmup_requests"}
    assert sorted(named) == sorted({file.name for file in (published.path / "assets.extra").iterdir()} - others)


def test_a_tower_that_is_refused_leaves_nothing(tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_LARGEST_FILE_BYTES", 1)
    with pytest.raises(BundleError, match="expected at most 1, which is all that such a file holds"):
        export(tiny_run, tmp_path / "models", "tiny", tower_formats=["tflite"])
    assert list(tmp_path.iterdir()) == []
