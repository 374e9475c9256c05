"""Both engines on the same sources: every byte of the datasets is compared."""

import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep import shards
from data_prep.beam.pipeline import prepare_with_beam
from data_prep.config import DataConfig
from data_prep.pipeline import prepare
from recsys.errors import ConfigError, RecsysError

PARTITION_ROWS = 150
FEATURES = [
    {"name": "kind", "type": "categorical", "num_oov": 2},
    {"name": "tags", "type": "multi_categorical", "separator": "|", "max_length": 2},
    {"name": "words", "type": "text", "column": "text", "max_ngram": 2, "num_buckets": 50},
    {"name": "price", "type": "numeric"},
    {"name": "size", "type": "numeric", "quantiles": 4},
    {"name": "born", "type": "timestamp"},
]
TEMPORAL = {"rule": "temporal", "validation_fraction": 0.2, "test_fraction": 0.2}


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of users of several partitions, and more of them than shards."""
    monkeypatch.setattr(shards, "BLOCK_ROWS", 16)


def interactions(seed: int = 0, rows: int = 600) -> pd.DataFrame:
    """Ties in time, repeated pairs, one user with many rows, items that come late."""
    rng = np.random.default_rng(seed)
    time = np.sort(rng.integers(0, rows // 3, size=rows))
    user = np.where(rng.random(rows) < 0.1, 0, rng.integers(1, 60, size=rows))
    return pd.DataFrame(
        {
            "user_id": [f"u{n}" for n in user],
            "item_id": [f"i{n}" for n in rng.integers(0, 10 + time // 4)],
            "timestamp": time,
            "rating": rng.integers(1, 6, size=rows),
            "confidence": rng.random(rows).round(3),
        }
    )


def catalogue(seed: int = 0) -> pd.DataFrame:
    """Content of items, some of which nobody takes, while some that are taken are absent."""
    rng = np.random.default_rng(seed)
    number = np.arange(20, 90)
    return pd.DataFrame(
        {
            "sku": [f"i{n}" for n in number],
            "kind": [f"k{n}" if n else "" for n in rng.integers(0, 6, size=len(number))],
            "tags": [
                "|".join(f"t{n}" for n in rng.integers(0, 9, size=size)) for size in rng.integers(0, 4, len(number))
            ],
            "text": [f"Der {n % 7} Ärger, Teil {n % 5}" for n in number],
            "price": [f"{value:.2f}" if value > 2 else "" for value in rng.lognormal(2, 1, len(number))],
            "size": rng.integers(0, 12, size=len(number)).astype(str),
            "born": [f"2020-0{n % 9 + 1}-11T0{n % 7}:30:00" if n % 4 else "" for n in number],
        }
    )


def with_own_tables(folder: Path, seed: int = 0) -> tuple[str, dict[str, Any]]:
    """Tables of their own in CSV, several parts, and bad rows in all of them."""
    rows = interactions(seed).astype(str)
    rows.loc[3, "user_id"] = ""
    rows.loc[[4, 409], "timestamp"] = "soon"
    rows.loc[410, "rating"] = ""
    (folder / "rows").mkdir()
    for number in range(3):
        rows.iloc[number * 200 : (number + 1) * 200].to_csv(folder / "rows" / f"{number}.csv", index=False)
    with (folder / "rows" / "1.csv").open("a") as file:
        file.write("u1,i1\n")
    items = catalogue(seed)
    items.loc[5, "price"] = "cheap"
    items.loc[8, "sku"] = ""
    items.loc[[11, 13], "born"] = ["20200304", "1600000000000"]
    (folder / "items").mkdir()
    items.to_csv(folder / "items" / "0.csv", index=False)
    pd.concat([items.iloc[10:13], items.iloc[10:11].assign(sku="new")]).to_csv(folder / "items" / "1.csv", index=False)
    pd.DataFrame({"user_id": ["u0", "u3", "u3", "nobody"], "age": [30, 40, 50, 60]}).to_csv(folder / "users.csv")
    return str(folder / "rows"), {
        "interactions": {"label": "rating", "weight": "confidence"},
        "items": {"source": str(folder / "items"), "id": "sku", "features": FEATURES, "show": ["text", "kind"]},
        "users": {"source": str(folder / "users.csv"), "features": [{"name": "age", "type": "numeric"}]},
        "filters": {"start": 4, "min_label": 2, "duplicates": "sum"},
        "split": TEMPORAL,
        "history_length": 3,
    }


def with_content_beside(folder: Path) -> tuple[str, dict[str, Any]]:
    """Parquet of lists and moments, content in the interactions, a random split."""
    rows = interactions().merge(catalogue().rename(columns={"sku": "item_id"}), how="left")
    table = pa.Table.from_pandas(rows.drop(columns=["tags", "born"]), preserve_index=False)
    born = pd.to_datetime(rows["born"], errors="coerce", format="ISO8601")
    table = table.append_column("born", pa.array(born, pa.timestamp("ms")))
    table = table.append_column("tags", pa.array([[*str(tags).split("|"), ""] for tags in rows["tags"]]))
    pq.write_table(table, folder / "rows.parquet")
    features = [feature | {"separator": None} if feature["name"] == "tags" else feature for feature in FEATURES]
    split = {"rule": "random", "validation_fraction": 0.2, "test_fraction": 0.2, "validation": False}
    return str(folder / "rows.parquet"), {
        "items": {"features": features, "show": ["born"]},
        "filters": {"duplicates": "last"},
        "split": split,
        "seed": 3,
    }


def with_changing_content(folder: Path) -> tuple[str, dict[str, Any]]:
    """Several files, newest row first, in which users and items have other content in every row."""
    rows = interactions().iloc[::-1].reset_index(drop=True)
    number = np.arange(len(rows))
    content = {
        "kind": [f"k{n}" for n in number % 23],
        "tags": [f"t{n % 7}|t{n % 11}" for n in number],
        "text": [f"Teil {n % 13}" for n in number],
        "price": number * 0.5,
        "size": number % 19,
        "born": [f"2020-01-{n % 28 + 1:02}T0{n % 7}:30:00" if n % 3 == 0 else 10**9 * (1600 + 7 * n) for n in number],
        "plan": [f"p{n}" for n in number % 5],
    }
    rows = rows.assign(**content)
    (folder / "rows").mkdir()
    for part in range(4):
        rows.iloc[part * 150 : (part + 1) * 150].to_csv(folder / "rows" / f"{part}.csv", index=False)
    return str(folder / "rows"), {
        "interactions": {"label": "rating"},
        "items": {"features": FEATURES, "show": ["text", "kind"]},
        "users": {"features": [{"name": "plan", "type": "categorical"}], "show": ["kind"]},
        "filters": {"start": 3, "min_label": 2, "duplicates": "last", "min_user_interactions": 2},
        "split": {"rule": "random", "validation_fraction": 0.3, "test_fraction": 0.3},
    }


def without_content(folder: Path) -> tuple[str, dict[str, Any]]:
    """Ids alone, milliseconds beside a date, the k-core, the last item of each user, no histories."""
    rows = interactions()
    rows["timestamp"] = 1_672_531_199_990 + rows["timestamp"]
    rows.to_csv(folder / "rows.csv", index=False)
    filters = {"start": date(2023, 1, 1), "duplicates": "first", "min_user_interactions": 3, "min_item_interactions": 4}
    return str(folder / "rows.csv"), {"filters": filters, "split": {"rule": "leave_one_out"}, "history_length": 0}


def with_a_test_table(folder: Path) -> tuple[str, dict[str, Any]]:
    """Tables without timestamps, and content that only the first has."""
    rows = interactions().drop(columns="timestamp")
    train = rows.iloc[:500].assign(kind=[f"k{n % 23}" for n in range(500)])
    train.to_json(folder / "train.jsonl", orient="records", lines=True)
    rows.iloc[500:].to_json(folder / "test.jsonl", orient="records", lines=True)
    split = {"rule": "given", "validation_fraction": 0.2, "test": str(folder / "test.jsonl")}
    return str(folder / "train.jsonl"), {
        "interactions": {"timestamp": False, "weight": "confidence"},
        "items": {"features": [{"name": "kind", "type": "categorical"}], "show": ["kind"]},
        "split": split,
    }


def files_of(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def assert_equal_datasets(single: Path, beam: Path) -> None:
    ours, theirs = files_of(beam), files_of(single)
    assert sorted(ours) == sorted(theirs)
    assert [name for name in ours if ours[name] != theirs[name]] == []


@pytest.mark.parametrize("case", [with_content_beside, with_changing_content, without_content])
def test_beam_writes_what_one_machine_writes(
    case: Callable[[Path], tuple[str, dict[str, Any]]], tmp_path: Path
) -> None:
    source, settings = case(tmp_path)
    config = DataConfig.model_validate(settings)
    prepare(source, config, tmp_path / "single")
    prepare_with_beam(source, config, tmp_path / "beam", partition_rows=PARTITION_ROWS)
    assert_equal_datasets(tmp_path / "single", tmp_path / "beam")


@pytest.mark.slow
def test_beam_extends_and_quarantines_as_one_machine(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    source, settings = with_own_tables(tmp_path / "old")
    prepare(source, DataConfig.model_validate(settings), tmp_path / "single", max_bad_fraction=0.3)
    (tmp_path / "new").mkdir()
    source, settings = with_own_tables(tmp_path / "new", seed=1)
    config = DataConfig.model_validate(settings)
    for engine, name in ((prepare, "extended"), (prepare_with_beam, "extended_beam")):
        options: dict[str, Any] = {"partition_rows": PARTITION_ROWS} if engine is prepare_with_beam else {}
        engine(source, config, tmp_path / name, None, 0.3, tmp_path / "single", **options)
    assert_equal_datasets(tmp_path / "extended", tmp_path / "extended_beam")
    quarantined = {name for name in files_of(tmp_path / "extended") if name.startswith("quarantine")}
    assert quarantined == {f"quarantine/{name}.parquet" for name in ("interactions", "items", "users")}


@pytest.mark.slow
def test_two_processes_write_what_one_machine_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # workers have blocks of the common size
    source, settings = with_a_test_table(tmp_path)
    config = DataConfig.model_validate(settings)
    options = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    prepare(source, config, tmp_path / "single")
    prepare_with_beam(source, config, tmp_path / "beam", None, 0.3, beam_options=options, partition_rows=PARTITION_ROWS)
    assert_equal_datasets(tmp_path / "single", tmp_path / "beam")


def unreadable_rows(folder: Path) -> None:
    rows = interactions(rows=40).astype(str)
    rows.loc[[2, 5], "timestamp"] = "soon"
    rows.loc[7, "user_id"] = ""
    rows.to_csv(folder / "rows.csv", index=False)


def one_moment(folder: Path) -> None:
    interactions(rows=40).assign(timestamp=7).to_csv(folder / "rows.csv", index=False)


def no_rows(folder: Path) -> None:
    interactions(rows=40).iloc[:0].to_csv(folder / "rows.csv", index=False)


def a_missing_column(folder: Path) -> None:
    interactions(rows=40).drop(columns="item_id").to_csv(folder / "rows.csv", index=False)


def rare_users(folder: Path) -> None:
    interactions(rows=5).assign(user_id=list("abcde")).to_csv(folder / "rows.csv", index=False)


def weightless_train(folder: Path) -> None:
    """Weights begin behind the first cut, at 80 % of the rows."""
    rows = interactions(rows=40).assign(timestamp=range(40), confidence=[0] * 32 + [1] * 8)
    rows.to_csv(folder / "rows.csv", index=False)


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (
            unreadable_rows,
            {},
            "3 of 40 rows of the interactions are bad (2 × unreadable timestamp, 1 × missing user_id): "
            "expected at most a fraction of 0.01; mend the source or raise --max-bad-fraction",
        ),
        (
            one_moment,
            {},
            "the temporal split leaves a part empty (train 0, validation 0, test 40): "
            "expected more rows or distinct timestamps",
        ),
        (no_rows, {}, "{folder}/rows.csv is empty: expected at least one row"),
        (
            a_missing_column,
            {},
            "{folder}/rows.csv lacks the columns item_id: it has confidence, rating, timestamp, user_id",
        ),
        (
            rare_users,
            {"filters": {"min_user_interactions": 2}},
            "the filters leave no interaction (k-core 5): expected some; loosen [filters]",
        ),
        (
            weightless_train,
            {"interactions": {"weight": "confidence"}},
            "every train interaction has weight 0: expected some above 0; mend the column that interactions.weight "
            "names, or remove the key",
        ),
    ],
)
def test_mistakes_are_named_as_on_one_machine(
    make: Callable[[Path], None], settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    make(tmp_path)
    config = DataConfig.model_validate(settings)
    expected = message.format(folder=tmp_path)
    for engine in (prepare, prepare_with_beam):
        with pytest.raises(RecsysError, match=f"^{re.escape(expected)}$"):
            engine(str(tmp_path / "rows.csv"), config, tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["rows.csv"]


def test_an_unknown_beam_option_is_refused(tmp_path: Path) -> None:
    message = "Beam has no option --direct_num_worker: correct or remove it"
    with pytest.raises(ConfigError, match=f"^{message}$"):
        prepare_with_beam("synthetic:", DataConfig(), tmp_path / "out", beam_options=["--direct_num_worker=2"])
