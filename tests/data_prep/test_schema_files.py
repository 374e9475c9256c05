"""Which `data.toml` describes a source, and where further sources are found."""

from pathlib import Path

import pytest

from data_prep.schema_files import load_data_config
from recsys.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / "data.toml"
    path.write_text(text)
    return path


def test_a_source_that_no_shipped_file_describes_needs_one() -> None:
    with pytest.raises(ConfigError) as error:
        load_data_config(None, "rows.csv")
    assert str(error.value) == (
        "no schema is known for rows.csv: say which column is what in a file, --schema data.toml (--infer drafts "
        "one), or name a shipped one: amazon-beauty, gowalla, movielens, synthetic"
    )


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError) as error:
        load_data_config(Path("nowhere/data.toml"), "rows.csv")
    assert str(error.value) == "nowhere/data.toml is missing: expected a TOML file"


def test_wrong_keys_are_named_with_their_file(tmp_path: Path) -> None:
    path = write(tmp_path, "history = 7\n")
    with pytest.raises(ConfigError) as error:
        load_data_config(path, "rows.csv")
    assert str(error.value) == f"{path}: history: unknown key, remove it or correct its spelling"


@pytest.mark.parametrize("variant", ["100k", "latest-small"])
def test_the_variant_of_the_source_is_the_variant_of_its_items(variant: str) -> None:
    config = load_data_config(None, f"tfds:movielens/{variant}-ratings")
    assert config.items.source == f"tfds:movielens/{variant}-movies"
    assert config.interactions.item_id == "movie_id"


def test_a_variant_stays_within_one_part_of_the_name() -> None:
    with pytest.raises(ConfigError, match=r"^no schema is known for tfds:movielens/a/b-ratings: say which column is"):
        load_data_config(None, "tfds:movielens/a/b-ratings")


def test_the_variant_is_resolved_in_a_file_of_ones_own(tmp_path: Path) -> None:
    path = write(
        tmp_path, 'matches = "tfds:movielens/{variant}-ratings"\n[items]\nsource = "tfds:movielens/{variant}-movies"\n'
    )
    assert load_data_config(path, "tfds:movielens/100k-ratings").items.source == "tfds:movielens/100k-movies"


def test_a_relative_source_lies_beside_the_file(tmp_path: Path) -> None:
    text = '[items]\nsource = "tables/items.csv"\n[users]\nsource = "/data/users.csv"\n'
    path = write(tmp_path, text + '[split]\nrule = "given"\ntest = "test.csv"\n')
    config = load_data_config(path, "elsewhere/rows.csv")
    assert config.items.source == str(tmp_path / "tables" / "items.csv")
    assert config.users.source == "/data/users.csv"
    assert config.split.test == str(tmp_path / "test.csv")


def test_a_shipped_file_is_found_by_its_name_and_its_tables_beside_the_source() -> None:
    gowalla = load_data_config(Path("gowalla"), "some/where/train.csv.gz")
    assert (gowalla.split.rule, gowalla.split.test) == ("given", "some/where/test.csv.gz")
    assert gowalla.interactions.timestamp is False
    beauty = load_data_config(Path("amazon-beauty"), "some/where/interactions.csv.gz")
    assert beauty.items.source == "some/where/items.csv.gz"


def test_a_file_of_ones_own_goes_before_a_shipped_one_of_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gowalla").write_text("history_length = 3\n")
    assert load_data_config(Path("gowalla"), "train.csv").history_length == 3


def test_the_synthetic_generator_needs_no_file() -> None:
    assert load_data_config(None, "synthetic:users=10").interactions.label == "rating"
