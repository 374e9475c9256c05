"""`data.toml`: errors name all wrong keys, and sources are found."""

from pathlib import Path

import pytest

from data_prep.config import load_data_config
from recsys.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / "data.toml"
    path.write_text(text)
    return path


def test_all_wrong_keys_are_named_together(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        history_length = 0
        [interactions]
        user = "u"
        [split]
        rule = "random"
        [[items.features]]
        name = "Genre"
        [[items.features]]
        name = "tags"
        type = "text"
        max_length = "x"
        """,
    )
    with pytest.raises(ConfigError) as error:
        load_data_config(path, "rows.csv")
    assert str(error.value) == (
        f"{path}: interactions.user: unknown key, remove it or correct its spelling; "
        "items.features.0.name: string should match pattern '^[a-z][a-z0-9_]*$', received 'Genre'; "
        "items.features.0.type: required, but absent; "
        "items.features.1.max_length: input should be a valid integer, unable to parse string as an integer, "
        "received 'x'; "
        "split.rule: input should be 'temporal', received 'random'; "
        "history_length: input should be greater than or equal to 1, received 0"
    )


def test_fractions_that_leave_no_train_rows_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "[split]\nvalidation_fraction = 0.5\ntest_fraction = 0.5\n")
    with pytest.raises(ConfigError) as error:
        load_data_config(path, "rows.csv")
    assert str(error.value) == (f"{path}: split: validation_fraction + test_fraction must be below 1")


def test_a_source_that_no_shipped_file_describes_needs_one() -> None:
    with pytest.raises(ConfigError) as error:
        load_data_config(None, "rows.csv")
    assert str(error.value) == (
        "no schema is known for rows.csv: say which column is what in a file, --schema data.toml"
    )


@pytest.mark.parametrize("variant", ["100k", "latest-small"])
def test_the_variant_of_the_source_is_the_variant_of_its_items(variant: str) -> None:
    config = load_data_config(None, f"tfds:movielens/{variant}-ratings")
    assert config.items.source == f"tfds:movielens/{variant}-movies"
    assert config.interactions.item_id == "movie_id"


def test_a_variant_stays_within_one_part_of_the_name() -> None:
    with pytest.raises(ConfigError, match="no schema is known for tfds:movielens/a/b-ratings: say which column is"):
        load_data_config(None, "tfds:movielens/a/b-ratings")


def test_the_variant_is_resolved_in_a_file_of_ones_own(tmp_path: Path) -> None:
    path = write(
        tmp_path, 'matches = "tfds:movielens/{variant}-ratings"\n[items]\nsource = "tfds:movielens/{variant}-movies"\n'
    )
    assert load_data_config(path, "tfds:movielens/100k-ratings").items.source == "tfds:movielens/100k-movies"


def test_a_relative_source_lies_beside_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, '[items]\nsource = "tables/items.csv"\n[users]\nsource = "/data/users.csv"\n')
    config = load_data_config(path, "elsewhere/rows.csv")
    assert config.items.source == str(tmp_path / "tables" / "items.csv")
    assert config.users.source == "/data/users.csv"


def test_a_feature_reads_the_column_of_its_name_unless_told(tmp_path: Path) -> None:
    text = '[items]\nshow = ["title"]\n[[items.features]]\nname = "genre"\ntype = "categorical"\n'
    path = write(tmp_path, text + '[[items.features]]\nname = "words"\ncolumn = "text"\ntype = "text"\n')
    assert load_data_config(path, "rows.csv").items.columns == {"genre", "text", "title"}


def test_users_and_items_may_not_share_a_feature_name(tmp_path: Path) -> None:
    """Vocabularies and the features of a batch are found by name alone."""
    feature = 'name = "country"\ntype = "categorical"\n'
    path = write(tmp_path, f"[[items.features]]\n{feature}[[users.features]]\n{feature}")
    with pytest.raises(ConfigError) as error:
        load_data_config(path, "rows.csv")
    assert str(error.value) == (
        f"{path}: the file: feature names must differ from each other and from the dataset's own: country"
    )


@pytest.mark.parametrize(
    "name", ["item", "item_id", "user", "user_id", "train_count", "history", "weight", "user_row", "item_row"]
)
def test_a_feature_may_not_take_a_name_that_a_dataset_needs(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, f'[[items.features]]\nname = "{name}"\ntype = "categorical"\n')
    with pytest.raises(ConfigError) as error:
        load_data_config(path, "rows.csv")
    assert str(error.value) == (
        f"{path}: the file: feature names must differ from each other and from the dataset's own: {name}"
    )
