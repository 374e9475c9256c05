"""`prepare` from a CSV to a DATASET, against pandas; the same bytes each time, and a whole dataset or none."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep import pipeline
from data_prep.config import DataConfig
from data_prep.pipeline import prepare
from data_prep.schema_files import load_data_config
from recsys.dataset import Dataset, open_dataset
from recsys.errors import OutputExistsError, RecsysError, SourceError
from recsys.interactions import load_interactions
from recsys.schema import Manifest

SYNTHETIC = "synthetic:users=60,items=90,interactions=3000"
CATEGORY = {"name": "category", "type": "categorical"}


def random_rows() -> pd.DataFrame:
    """Users and items that appear late, repeats, and ties in time; no row is bad."""
    rng = np.random.default_rng(5)
    time = np.sort(rng.integers(400, size=1500))
    frame = pd.DataFrame(
        {
            "user_id": [f"u{n}" for n in rng.integers(5 + time // 20)],
            "item_id": [f"i{n}" for n in rng.integers(10 + time // 10)],
            "timestamp": time,
        }
    )
    return frame.assign(category="c" + frame["item_id"].str[-1])


def prepared(folder: Path, rows: pd.DataFrame, max_bad_fraction: float = 0.01, **config: Any) -> Dataset:
    folder.mkdir(exist_ok=True)
    rows.to_csv(folder / "rows.csv", index=False)
    parsed = DataConfig.model_validate(config)
    prepare(str(folder / "rows.csv"), parsed, folder / "dataset", max_bad_fraction=max_bad_fraction)
    return open_dataset(folder / "dataset")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return prepared(tmp_path_factory.mktemp("prepared"), random_rows(), items={"features": [CATEGORY]})


def files_of(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def train_rows(manifest: Manifest) -> pd.DataFrame:
    rows = random_rows()
    return rows[rows["timestamp"] < manifest.split_rule.validation_start]


def stored_rows(made: Dataset) -> list[tuple[str, str, int, int]]:
    loaded = load_interactions(made)
    users, items = made.users["user"].to_numpy(), made.items["item"].to_numpy()
    return sorted(zip(users[loaded.user_row], items[loaded.item_row], loaded.timestamp, loaded.split, strict=True))


def test_every_interaction_is_in_the_split_of_its_time(dataset: Dataset) -> None:
    rows, cuts = random_rows(), dataset.manifest.split_rule
    split = [int(t >= cuts.validation_start) + int(t >= cuts.test_start) for t in rows["timestamp"]]
    expected = sorted(zip(rows["user_id"], rows["item_id"], rows["timestamp"], split, strict=True))
    assert stored_rows(dataset) == expected
    assert [dataset.manifest.num_rows(name) for name in ("train", "validation", "test")] == np.bincount(split).tolist()


def test_vocabularies_and_counts_come_from_train_rows(dataset: Dataset) -> None:
    train = train_rows(dataset.manifest)
    for kind in ("user", "item"):
        counts = train[f"{kind}_id"].value_counts().to_dict()
        stored = pq.read_table(dataset.path / "vocabulary" / f"{kind}_id.parquet").to_pydict()
        assert dict(zip(stored["value"], stored["count"], strict=True)) == counts
        assert stored["value"] == sorted(counts, key=lambda value: (-counts[value], value))
    expected = [train["item_id"].value_counts().get(item, 0) for item in dataset.items["item"].to_pylist()]
    assert dataset.train_counts.tolist() == expected
    categories = train.drop_duplicates("item_id")["category"].value_counts()
    stored = pq.read_table(dataset.path / "vocabulary" / "category.parquet").to_pydict()
    assert dict(zip(stored["value"], stored["count"], strict=True)) == categories.to_dict()


def test_the_manifest_describes_every_file(dataset: Dataset) -> None:
    manifest = dataset.manifest
    listed = [manifest.items, manifest.users, *manifest.vocabularies.values(), *sum(manifest.splits.values(), ())]
    unlisted = {"manifest.json", "statistics.json", "report.html"}
    assert {shard.name for shard in listed} | unlisted == set(files_of(dataset.path))
    assert (manifest.quarantine, manifest.filtered, manifest.seed) == ({}, {}, 0)
    assert set(manifest.sources) == {"interactions"}


def test_bad_rows_are_quarantined_and_counted(tmp_path: Path) -> None:
    rows = random_rows().drop(columns="category").astype(str)
    rows.loc[3, "user_id"] = ""
    rows.loc[[4, 9], "timestamp"] = "soon"
    made = prepared(tmp_path, rows)
    kept_apart = pq.read_table(made.path / "quarantine" / "interactions.parquet").to_pandas()
    assert kept_apart.drop(columns=["text", "item_id"]).to_dict("list") == {
        "position": [3, 4, 9],
        "reason": ["missing user_id", "unreadable timestamp", "unreadable timestamp"],
        "timestamp": [rows.loc[3, "timestamp"], "soon", "soon"],
        "user_id": ["", rows.loc[4, "user_id"], rows.loc[9, "user_id"]],
    }
    assert made.manifest.quarantine == {"missing user_id": 1, "unreadable timestamp": 2}
    assert made.manifest.statistics["interactions"] == 1497


def test_too_many_bad_rows_leave_nothing_behind(tmp_path: Path) -> None:
    rows = random_rows()
    rows.loc[:30, "item_id"] = ""
    with pytest.raises(SourceError) as error:
        prepared(tmp_path, rows, max_bad_fraction=0.02)
    assert str(error.value) == (
        "31 of 1500 rows of the interactions are bad (31 × missing item_id): expected at most a fraction of 0.02; "
        "mend the source or raise --max-bad-fraction"
    )
    assert [file.name for file in tmp_path.iterdir()] == ["rows.csv"]
    assert prepared(tmp_path, rows, max_bad_fraction=0.03).manifest.quarantine == {"missing item_id": 31}


def test_the_seed_changes_the_order_of_items_only(tmp_path: Path, dataset: Dataset) -> None:
    other = prepared(tmp_path, random_rows(), items={"features": [CATEGORY]}, seed=1)
    ours, theirs = dataset.items["item"].to_pylist(), other.items["item"].to_pylist()
    assert ours != theirs
    assert sorted(ours) == sorted(theirs)
    assert dataset.vocabulary("item_id") == other.vocabulary("item_id")


def test_filters_are_counted_and_what_they_leave_out_is_gone(tmp_path: Path) -> None:
    rows = random_rows().assign(stars=lambda frame: frame["timestamp"] % 5)
    filters = {"start": 20, "min_label": 1, "duplicates": "last", "min_item_interactions": 3}
    made = prepared(tmp_path, rows, filters=filters, interactions={"label": "stars"})
    left = rows[rows["timestamp"] >= 20]
    window, liked = 1500 - len(left), left[left["stars"] >= 1]
    unique = liked.drop_duplicates(["user_id", "item_id"], keep="last")
    core = unique[unique.groupby("item_id")["user_id"].transform("size") >= 3]
    assert made.manifest.filtered == {
        "time window": window,
        "min_label": len(left) - len(liked),
        "duplicates": len(liked) - len(unique),
        "k-core": len(unique) - len(core),
    }
    expected = sorted(zip(core["user_id"], core["item_id"], core["timestamp"], strict=True))
    assert [row[:3] for row in stored_rows(made)] == expected
    assert set(made.items["item"].to_pylist()) == set(core["item_id"])
    assert made.schema.label
    assert not made.schema.weight


def test_summed_duplicates_have_a_weight(tmp_path: Path) -> None:
    assert prepared(tmp_path, random_rows(), filters={"duplicates": "sum"}).schema.weight


def test_one_train_row_that_weighs_something_is_enough(tmp_path: Path) -> None:
    rows = random_rows().assign(times=lambda frame: (frame.index == 7) * 0.5)
    made = prepared(tmp_path, rows, interactions={"weight": "times"})
    assert made.schema.weight
    assert made.manifest.statistics["interactions"] == 1500


def test_an_items_table_adds_items_that_nobody_took(tmp_path: Path) -> None:
    table = pd.DataFrame({"sku": ["i1", "never", "i2", "i1", ""], "kind": ["a", "b", "a", "z", "z"]})
    table.to_csv(tmp_path / "items.csv", index=False)
    source = {"source": str(tmp_path / "items.csv"), "id": "sku", "features": [CATEGORY | {"column": "kind"}]}
    with pytest.raises(SourceError) as error:
        prepared(tmp_path, random_rows(), items=source, max_bad_fraction=0.3)
    assert str(error.value) == (
        "2 of 5 rows of the items are bad (1 × missing sku, 1 × repeated sku): expected at most a fraction of 0.3; "
        "mend the source or raise --max-bad-fraction"
    )
    made = prepared(tmp_path, random_rows(), items=source, max_bad_fraction=0.4)
    items = dict(zip(made.items["item"].to_pylist(), made.items["category"].to_pylist(), strict=True))
    assert set(items) == set(random_rows()["item_id"]) | {"never"}
    # `a` is in train, `b` is not, and what the table does not list has no kind.
    assert (items["i1"], items["i2"], items["never"], items["i3"]) == (2, 2, 1, 0)
    assert made.manifest.quarantine == {"items: missing sku": 1, "items: repeated sku": 1}
    kept_apart = pq.read_table(made.path / "quarantine" / "items.parquet").to_pydict()
    assert (kept_apart["position"], kept_apart["kind"]) == ([3, 4], ["z", "z"])


def test_a_table_of_ids_alone_adds_users(tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("who\nu1\nnobody\n")
    rows = random_rows().rename(columns={"user_id": "who"})
    users = {"source": str(tmp_path / "users.csv")}
    made = prepared(tmp_path, rows, users=users, interactions={"user_id": "who"})
    assert set(made.users["user"].to_pylist()) == set(rows["who"]) | {"nobody"}
    assert made.manifest.statistics["users_without_interactions"] == 1
    assert made.manifest.statistics["users_not_listed"] == rows["who"].nunique() - 1


def test_an_integer_column_stays_as_written_beside_unlisted_items(tmp_path: Path) -> None:
    pq.write_table(pa.table({"item_id": ["i1", "i2"], "year": [1995, 1996]}), tmp_path / "items.parquet")
    feature = {"name": "year", "type": "categorical"}
    items = {"source": str(tmp_path / "items.parquet"), "features": [feature], "show": ["year"]}
    made = prepared(tmp_path, random_rows(), items=items)
    assert made.vocabulary("year") == ["1995", "1996"]
    assert set(made.items["show_year"].to_pylist()) == {"1995", "1996", ""}


@pytest.mark.parametrize("column", ["item", "user", "id", "position", "reason", "text"])
def test_any_name_may_be_that_of_a_content_column(tmp_path: Path, column: str) -> None:
    rows = random_rows().rename(columns={"category": column})
    rows.loc[1499, "item_id"] = ""
    made = prepared(tmp_path, rows, items={"show": [column]})
    shown = dict(zip(made.items["item"].to_pylist(), made.items[f"show_{column}"].to_pylist(), strict=True))
    assert shown == dict(zip(rows["item_id"][:-1], rows[column][:-1], strict=True))
    assert made.manifest.quarantine == {"missing item_id": 1}
    kept_apart = pq.read_table(made.path / "quarantine" / "interactions.parquet").to_pydict()
    assert (kept_apart["position"], kept_apart["reason"]) == ([1499], ["missing item_id"])
    name = f"source_{column}" if column in ("position", "reason", "text") else column
    assert kept_apart[name] == [rows[column].iloc[-1]]


def test_integer_and_text_ids_of_two_tables_are_joined(tmp_path: Path) -> None:
    """A CSV writes 7, a Parquet of floats 7.0."""
    rows = random_rows().assign(item_id=lambda frame: frame["item_id"].str[1:])
    ids = sorted({float(item) for item in rows["item_id"]})
    pq.write_table(pa.table({"item_id": ids, "kind": [str(i) for i in ids]}), tmp_path / "items.parquet")
    made = prepared(tmp_path, rows, items={"source": str(tmp_path / "items.parquet"), "show": ["kind"]})
    assert made.manifest.statistics["items_not_listed"] == 0
    assert all(
        float(item) == float(kind) for item, kind in made.items.select(["item", "show_kind"]).to_pandas().to_numpy()
    )


def test_without_times_duplicates_are_first_and_last_by_row(tmp_path: Path) -> None:
    """Rows of the table that tests come after those of train."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"user_id": rng.integers(9, size=400), "item_id": rng.integers(40, size=400)}).astype(str)
    test = pd.concat([rows[:1], rows[200:]])
    test.to_csv(tmp_path / "test.csv", index=False)
    split = {"rule": "given", "test": str(tmp_path / "test.csv"), "validation_fraction": 0.3}
    for policy, keep in (("first", "first"), ("last", "last")):
        folder = tmp_path / policy
        config = {"interactions": {"timestamp": False}, "split": split, "filters": {"duplicates": policy}}
        folder.mkdir()
        rows[:200].to_csv(folder / "rows.csv", index=False)
        made = prepared(folder, rows[:200], **config)
        both = pd.concat([rows[:200].assign(test=False), test.assign(test=True)])
        expected = both.drop_duplicates(["user_id", "item_id"], keep=keep)
        found = [(user, item, split == 2) for user, item, _, split in stored_rows(made)]
        assert sorted(found) == sorted(expected.itertuples(index=False, name=None))


@pytest.mark.parametrize("history_length", [0, 3])
def test_sources_without_time_and_histories_may_be_prepared(tmp_path: Path, history_length: int) -> None:
    rows = random_rows().drop(columns="timestamp")
    config = {"interactions": {"timestamp": False}, "split": {"rule": "leave_one_out"}}
    made = prepared(tmp_path, rows, history_length=history_length, **config)
    assert made.manifest.split_rule.order == "row"
    assert made.schema.history_length == history_length
    held_out = {row[0]: row[1] for row in stored_rows(made) if row[3] == 2}
    counts = rows["user_id"].value_counts()
    last = rows[rows["user_id"].isin(counts[counts >= 3].index)].groupby("user_id")["item_id"].last()
    assert held_out == last.to_dict()


def test_a_failing_run_leaves_nothing_behind(tmp_path: Path) -> None:
    rows = random_rows().assign(timestamp=7)
    with pytest.raises(SourceError) as error:
        prepared(tmp_path, rows)
    assert str(error.value) == (
        "the temporal split leaves a part empty (train 0, validation 0, test 1500): "
        "expected more rows or distinct timestamps"
    )
    assert [file.name for file in tmp_path.iterdir()] == ["rows.csv"]


@pytest.mark.parametrize("step", ["read_interactions", "encode_entities"])
def test_more_text_than_one_machine_holds_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def overflow(*_: Any) -> None:
        pc.binary_repeat(pa.array(["x" * 1024]), 1 << 21)

    monkeypatch.setattr(pipeline, step, overflow)
    with pytest.raises(SourceError, match=r"more than 2 GiB of text: expected less on one machine; use --engine beam$"):
        prepared(tmp_path, random_rows())
    assert [file.name for file in tmp_path.iterdir()] == ["rows.csv"]


def test_an_existing_directory_is_refused_and_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "dataset"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(OutputExistsError) as error:
        prepare(SYNTHETIC, load_data_config(None, SYNTHETIC), out)
    assert str(error.value) == f"{out} exists: expected a new directory; choose another name or remove it first"
    assert files_of(tmp_path) == {"dataset/mine.txt": b"keep"}


# Pieces of rows that readers disagree about.
PIECES = st.sampled_from(
    [
        *(b"a", b"b", b"1", b"2", b"7.5", b"-3", b"2020-01-01", b"nan", b"1e400", b"u,i,5\n", b"x" * 5000),
        *(b",", b",", b'"', b'""', b"\n", b"\r\n", b"\r", b"\0", b" ", b"\t"),
        *(b"\xff", b"\xc3\xa9", b"\xef\xbb\xbf", b"\xe2\x80\xa8"),
    ]
)
GOOD = b"".join(b"u%d,i%d,%d\n" % (n % 5, n % 7, n) for n in range(60))


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(PIECES, max_size=30).map(b"".join))
def test_no_bytes_give_a_traceback_or_a_lost_row(tmp_path_factory: pytest.TempPathFactory, garbage: bytes) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "rows.csv").write_bytes(b"user_id,item_id,timestamp\n" + GOOD + garbage)
    try:
        manifest = prepare(str(folder / "rows.csv"), DataConfig(), folder / "dataset", max_bad_fraction=1.0)
    except RecsysError:
        assert sorted(file.name for file in folder.iterdir()) == ["rows.csv"]
        return
    bad, kept = sum(manifest.quarantine.values()), sum(manifest.num_rows(split) for split in manifest.splits)
    assert kept >= 60
    if bad:
        assert pq.read_table(folder / "dataset" / "quarantine" / "interactions.parquet").num_rows == bad
    if b'"' not in garbage:
        lines = [line for line in garbage.replace(b"\r", b"\n").split(b"\n") if line]
        assert kept + bad == 60 + len(lines)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=300))
def test_no_file_gives_a_traceback(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    for name in ("rows.csv", "rows.jsonl", "rows.csv.gz", "rows.parquet"):
        (folder / name).write_bytes(content)
        with pytest.raises(RecsysError):
            prepare(str(folder / name), DataConfig(), folder / "dataset", max_bad_fraction=1.0)
        assert not (folder / "dataset").exists()


def test_twice_in_one_process_gives_the_same_bytes(tmp_path: Path) -> None:
    """Every kind of feature, labels and weights, a quarantine and filters."""
    rows = random_rows().assign(stars=1.5, times=lambda frame: frame["timestamp"] % 3 + 1).astype(str)
    rows.loc[3, "user_id"] = ""
    types = ("categorical", "multi_categorical", "text", "numeric", "timestamp")
    columns = ("category", "category", "category", "timestamp", "timestamp")
    features = [{"name": f"f{n}", "type": t, "column": c} for n, (t, c) in enumerate(zip(types, columns, strict=True))]
    config: dict[str, Any] = {
        "interactions": {"label": "stars", "weight": "times"},
        "items": {"features": features, "show": ["category"]},
        "filters": {"duplicates": "sum", "min_user_interactions": 2},
    }
    made = [files_of(prepared(tmp_path, rows, **config).path)]
    (tmp_path / "dataset").rename(tmp_path / "first")
    made.append(files_of(prepared(tmp_path, rows, **config).path))
    assert made[0] == made[1]
    assert {"report.html", "manifest.json", "quarantine/interactions.parquet"} < set(made[0])


# Forks once per preparation, so that the seconds of importing TensorFlow are spent once. The first is left to finish,
# the others are killed as soon as so many files of theirs are seen, or, every third, at a moment of chance.
KILLER = """
import os, random, signal, sys, time
from pathlib import Path
import data_prep.pipeline, data_prep.report_figures, data_prep.schema_files

source, folder = sys.argv[1], Path(sys.argv[2])
chance = random.Random()

def start(name):
    child = os.fork()
    if child == 0:
        data_prep.pipeline.prepare(source, data_prep.schema_files.load_data_config(None, source), folder / name)
        os._exit(0)
    return child

def files_written(prefix):
    # os.walk passes over what is renamed while it walks.
    return sum(len(files) for path, _, files in os.walk(folder) if Path(path).relative_to(folder).parts[:1]
               and Path(path).relative_to(folder).parts[0].startswith(prefix))

begun = time.monotonic()
assert os.waitpid(start("whole"), 0)[1] == 0
whole_seconds = time.monotonic() - begun
for trial in range(9):
    child, until = start(f"killed-{trial}"), time.monotonic() + chance.random() * whole_seconds
    while (time.monotonic() < until) if trial % 3 == 2 else (files_written(f".killed-{trial}.partial-") < trial + 1):
        if os.waitpid(child, os.WNOHANG)[0]:
            break
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
"""


@pytest.mark.slow
def test_a_killed_process_leaves_a_whole_dataset_or_none(tmp_path: Path) -> None:
    """And another process, whose sets have another order, writes the same bytes; the same command finishes the work."""
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    subprocess.run([sys.executable, "-c", KILLER, SYNTHETIC, str(tmp_path)], check=True, env=environment, timeout=100)
    here = tmp_path / "here"
    prepare(SYNTHETIC, load_data_config(None, SYNTHETIC), here)
    whole = files_of(here)
    assert len(whole) > 8
    assert files_of(tmp_path / "whole") == whole
    for path in tmp_path.glob("killed-*"):
        assert files_of(path) == whole
    interrupted = sorted(tmp_path.glob(".killed-*.partial-*"))
    assert len(interrupted) >= 3
    names = [path.name[1:].partition(".")[0] for path in interrupted]
    assert not any((tmp_path / name).exists() for name in names)
    prepare(SYNTHETIC, load_data_config(None, SYNTHETIC), tmp_path / names[-1])
    assert files_of(tmp_path / names[-1]) == whole
