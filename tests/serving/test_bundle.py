"""A bundle on disk: what is opened, and what is refused."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from running_server import sign

from recsys.dataset import Dataset
from recsys.errors import BundleError
from serving.bundle import open_bundle, versions

RECORD = "assets.extra/bundle.json"
FILES = [
    "assets/items.txt",
    "assets/users.txt",
    "assets.extra/candidates.parquet",
    "assets.extra/index_report.html",
    "assets.extra/items.parquet",
    "assets.extra/tf_serving_warmup_requests",
    "fingerprint.pb",
    "saved_model.pb",
    "variables/variables.data-00000-of-00001",
    "variables/variables.index",
]


@pytest.fixture
def models(tiny_models: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(tiny_models / "tiny", tmp_path / "tiny"))


def refusal(models: Path, number: int | None = None) -> str:
    with pytest.raises(BundleError) as error:
        open_bundle(models, number)
    return str(error.value)


def change_record(models: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = models / "1" / "assets.extra" / "bundle.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    change(record)
    file.write_text(json.dumps(record), encoding="utf-8")


def test_a_bundle_is_opened_with_its_record(tiny_models: Path, tiny_dataset: Dataset) -> None:
    bundle = open_bundle(tiny_models / "tiny", 1)
    record = bundle.record
    assert (bundle.version, bundle.path) == (1, tiny_models / "tiny" / "1")
    assert (record.name, record.version, record.kind) == ("tiny", 1, "index")
    assert record.num_candidates == record.max_k == len(tiny_dataset.items["item"]) == 293
    assert (record.embedding_dim, record.default_k, record.index_recall_k) == (16, 100, 100)
    assert sorted(record.files) == sorted(FILES)
    assert bundle.shown[tiny_dataset.items["item"][7].as_py()] == {"title": tiny_dataset.items["show_title"][7].as_py()}


@pytest.mark.parametrize("name", FILES)
def test_one_changed_bit_is_noticed(models: Path, name: str) -> None:
    file = models / "1" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    expected = f"{models / '1'} is damaged: {name} is not the file that was exported; export it again"
    assert refusal(models) == expected


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.sampled_from([*FILES, RECORD]), position=st.integers(0), difference=st.integers(1, 255))
@example(name=RECORD, position=1, difference=ord("\n") ^ ord("\r"))
@example(name=RECORD, position=2, difference=ord(" ") ^ ord("\t"))
def test_any_other_byte_anywhere_is_refused(models: Path, name: str, position: int, difference: int) -> None:
    """A line break or blank of the record, too, which says the same to who reads it."""
    file = models / "1" / name
    content = file.read_bytes()
    position %= len(content)
    file.write_bytes(content[:position] + bytes([content[position] ^ difference]) + content[position + 1 :])
    with pytest.raises(BundleError, match=re.escape(str(models / "1"))):
        open_bundle(models)
    file.write_bytes(content)


def test_another_model_s_index_is_noticed(models: Path) -> None:
    """The twin's variables are a whole index over the same items."""
    for name in ("variables.data-00000-of-00001", "variables.index"):
        shutil.copy(models / "exact" / "1" / "variables" / name, models / "1" / "variables" / name)
    expected = "variables/variables.data-00000-of-00001 is not the file that was exported; export it again"
    assert refusal(models) == f"{models / '1'} is damaged: {expected}"


def test_a_twin_of_other_towers_is_noticed_and_a_damaged_or_missing_one_is_its_own_matter(models: Path) -> None:
    file = models / "exact" / "1" / "assets.extra" / "bundle.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record["towers_sha256"] == open_bundle(models).record.towers_sha256
    file.write_text(json.dumps(record | {"towers_sha256": 64 * "0"}), encoding="utf-8")
    pair = f"{models / '1'} and {models / 'exact' / '1'}"
    assert refusal(models) == f"{pair} are of different towers: one is of another export; export it again"
    for content in ("no JSON", "[]", "{}"):
        file.write_text(content, encoding="utf-8")
        assert open_bundle(models).version == 1
    shutil.rmtree(models / "exact")
    assert open_bundle(models).version == 1


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_noticed(models: Path, name: str) -> None:
    (models / "1" / name).unlink()
    assert refusal(models) == f"{models / '1'} is damaged: {name} is missing; export it again"


@pytest.mark.parametrize("name", ["stray", "assets/more.txt", "assets.extra/.hidden"])
def test_an_extra_file_is_noticed(models: Path, name: str) -> None:
    (models / "1" / name).write_text("")
    assert refusal(models) == f"{models / '1'} is damaged: {name} does not belong to it; export it again"


def test_a_missing_record_is_noticed(models: Path) -> None:
    (models / "1" / "assets.extra" / "bundle.json").unlink()
    assert refusal(models) == f"{models / '1'} is no bundle: assets.extra/bundle.json is missing; export it again"


def test_a_record_that_is_no_json_is_noticed(models: Path) -> None:
    file = models / "1" / "assets.extra" / "bundle.json"
    file.write_bytes(b"z" + file.read_bytes()[1:])
    reason = "Expecting value: line 1 column 1 (char 0)"
    assert refusal(models) == f"{file} is damaged ({reason}); export it again"


def test_a_record_with_an_unknown_key_is_noticed(models: Path) -> None:
    change_record(models, lambda record: record.update(surprise=1))
    file = models / "1" / "assets.extra" / "bundle.json"
    assert refusal(models) == f"{file} is damaged (1 validation error for BundleRecord); export it again"


def test_another_format_version_is_refused(models: Path) -> None:
    change_record(models, lambda record: record.update(format_version=1))
    assert refusal(models) == f"{models / '1'} has bundle format 1: expected 5; export it again"


@pytest.mark.parametrize(
    ("tool", "other", "made"),
    [
        ("tensorflow", "2.19.0", "scann 1.4.2, tensorflow 2.19.0"),
        ("scann", "1.3.5", "scann 1.3.5, tensorflow 2.20.0"),
    ],
)
def test_other_versions_of_the_graph_s_tools_are_refused(models: Path, tool: str, other: str, made: str) -> None:
    change_record(models, lambda record: record["versions"].update({tool: other}))
    assert refusal(models) == (
        f"{models / '1'} was made by {made}: installed are scann 1.4.2, tensorflow 2.20.0; "
        "install those or export it again"
    )


@pytest.mark.parametrize(
    ("place", "folder", "expected"),
    [
        ("1", "tiny/2", "the bundle tiny/1: expected tiny/2"),
        ("1", "other/1", "the bundle tiny/1: expected other/1"),
        ("1", "tiny/exact/7", "the bundle tiny/1: expected exact/7"),
        ("exact/1", "tiny/2", "the bundle tiny/exact/1: expected models/tiny/2"),
        ("exact/1", "other/exact/1", "the bundle tiny/exact/1: expected other/exact/1"),
        ("exact/1", "tiny/exact/2", "the bundle tiny/exact/1: expected tiny/exact/2"),
    ],
)
def test_a_whole_bundle_in_another_s_place_is_refused(
    tiny_models: Path, tmp_path: Path, place: str, folder: str, expected: str
) -> None:
    path = tmp_path / "models" / folder
    shutil.copytree(tiny_models / "tiny" / place, path)
    assert refusal(path.parent) == f"{path} is {expected}; put it in its place or export it again"


@pytest.mark.parametrize(("place", "kind"), [("", "index"), ("exact", "twin")])
def test_a_model_s_folder_may_be_reached_from_inside_and_through_a_link(
    models: Path, monkeypatch: pytest.MonkeyPatch, place: str, kind: str
) -> None:
    (models.parent / "link").symlink_to(models)
    assert open_bundle(models.parent / "link" / place).record.kind == kind
    monkeypatch.chdir(models / place)
    assert open_bundle(Path()).record.kind == kind


@pytest.mark.parametrize("name", ["items", "candidates"])
def test_another_number_of_candidates_is_noticed(models: Path, name: str) -> None:
    file = models / "1" / "assets.extra" / f"{name}.parquet"
    pq.write_table(pq.read_table(file)[:290], file)
    sign(models / "1", "tiny", 1)
    expected = f"assets.extra/{name}.parquet has 290 rows, expected 293; export it again"
    assert refusal(models) == f"{models / '1'} is damaged: {expected}"


def test_embeddings_of_another_size_are_noticed(models: Path) -> None:
    file = models / "1" / "assets.extra" / "candidates.parquet"
    table = pq.read_table(file)
    halves = pa.FixedSizeListArray.from_arrays(table["embedding"].combine_chunks().values[: 293 * 8], 8)
    pq.write_table(table.set_column(2, "embedding", halves), file)
    sign(models / "1", "tiny", 1)
    expected = "assets.extra/candidates.parquet has embeddings of 8 numbers, expected 16; export it again"
    assert refusal(models) == f"{models / '1'} is damaged: {expected}"


@pytest.mark.parametrize("make", [False, True])
def test_a_folder_without_versions_is_refused(tmp_path: Path, make: bool) -> None:
    models = tmp_path / "nothing"
    if make:
        (models / ".2.partial-x").mkdir(parents=True)
        (models / "7").write_text("a file is no version")
    assert refusal(models) == f"{models} holds no bundle: expected a folder per version; make one with `recsys export`"


def test_an_unknown_version_is_refused_and_the_known_ones_are_named(models: Path) -> None:
    (models / "12").mkdir()
    (models / "9").mkdir()
    assert refusal(models, 3) == f"{models} has no version 3: it has 1, 9, 12"


def test_versions_are_ordered_as_numbers(tmp_path: Path) -> None:
    for name in ("10", "9", "x", ".11.partial-a"):
        (tmp_path / name).mkdir()
    assert versions(tmp_path) == [9, 10]
