"""A file of everybody's best items, against asking one by one."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.dataset import Dataset
from recsys.errors import OutputExistsError, RequestError
from serving import recommend_all as module
from serving.bundle import Bundle, open_bundle
from serving.recommend import recommend
from serving.recommend_all import recommend_all


@pytest.fixture(scope="module")
def bundle(tiny_models: Path) -> Bundle:
    return open_bundle(tiny_models / "tiny")


def one_by_one(bundle: Bundle, users: list[str], k: int) -> pd.DataFrame:
    columns = ["user_id", "rank", "item_id", "score"]
    rows = [{"user_id": user, **item} for user in users for item in recommend(bundle, user, k)["items"]]
    return pd.DataFrame(rows, columns=[*columns, "shown"])[columns].astype({"rank": "int32", "score": "float32"})


@pytest.mark.parametrize("k", [7, 293])
def test_every_user_gets_what_asking_for_that_user_gives(
    bundle: Bundle, tiny_dataset: Dataset, tmp_path: Path, k: int
) -> None:
    """Of all 293 items, those that were taken are left out, so that users have fewer rows, each its own number.

    Scores of a batch are rounded otherwise, so that items may change places where theirs are equal but for that.
    """
    users = tiny_dataset.users["user"].to_pylist()
    assert recommend_all(bundle, k, tmp_path / "all.parquet") == len(users) == 150
    found = pd.read_parquet(tmp_path / "all.parquet")
    expected = one_by_one(bundle, users, k)
    columns = ["user_id", "rank", "score"]
    pd.testing.assert_frame_equal(found[columns], expected[columns], rtol=0, atol=1e-6)
    scores = [frame.set_index(["user_id", "item_id"])["score"].sort_index() for frame in (found, expected)]
    pd.testing.assert_series_equal(*scores, rtol=0, atol=1e-6)
    assert (len(found) == 150 * k) is (k == 7)


def test_rows_are_written_in_groups_as_they_are_found(
    bundle: Bundle, tiny_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """150 users in calls of 16 are nine calls and one of six; three of them, at most 250 rows, are a group."""
    monkeypatch.setattr(module, "_USERS_PER_CALL", 16)
    monkeypatch.setattr(module, "_ROWS_PER_GROUP", 250)
    recommend_all(bundle, 5, tmp_path / "all.parquet")
    file = pq.ParquetFile(tmp_path / "all.parquet")
    groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert groups == [240, 240, 240, 30]
    assert file.schema_arrow.types == [pa.string(), pa.int32(), pa.string(), pa.float32()]
    assert file.read()["user_id"].unique().to_pylist() == tiny_dataset.users["user"].to_pylist()


def test_progress_is_told(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recommend_all(bundle, 2, tmp_path / "all.parquet")
    out, err = capsys.readouterr()
    assert (out, err[:25]) == ("", "recommending  150 users  ")


def test_a_file_that_exists_is_kept(bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "all.parquet"
    out.write_text("mine")
    with pytest.raises(OutputExistsError) as error:
        recommend_all(bundle, 2, out)
    assert str(error.value) == f"{out} exists: expected a new file; choose another name or remove it first"
    assert out.read_text() == "mine"


def test_k_out_of_range_leaves_nothing(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as error:
        recommend_all(bundle, 294, tmp_path / "deep" / "all.parquet")
    assert str(error.value) == "k = 294: expected 1 … 293 (the catalogue has 293 items)"
    assert list(tmp_path.iterdir()) == []
