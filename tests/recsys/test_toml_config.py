"""TOML into a model: all errors at once, and overrides."""

from pathlib import Path
from typing import Any

import pytest

from recsys.errors import ConfigError
from recsys.schema import Frozen
from recsys.toml_config import load_toml


class Train(Frozen):
    epochs: int = 1
    rate: float = 0.1
    optimizer: str = "adagrad"


class Config(Frozen):
    name: str
    widths: tuple[int, ...] = ()
    train: Train = Train()


def load(folder: Path, text: str, *overrides: str) -> Config:
    (folder / "config.toml").write_text(text)
    return load_toml(Config, folder / "config.toml", overrides)


def test_absent_keys_have_their_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, 'name = "a"\ntrain.epochs = 3\n') == Config(name="a", train=Train(epochs=3))


def test_all_wrong_fields_are_named_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, 'widths = [1, "x"]\ndepth = 3\n[train]\nepoch = 2\nrate = "fast"\n')
    assert str(error.value) == (
        f"{tmp_path}/config.toml: name: required, but absent; "
        "widths.1: input should be a valid integer, unable to parse string as an integer, received 'x'; "
        "train.rate: input should be a valid number, unable to parse string as a number, received 'fast'; "
        "train.epoch: unknown key, remove it or correct its spelling; "
        "depth: unknown key, remove it or correct its spelling"
    )


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epochs=5", {"train": {"epochs": 5}}),
        (" train.rate = 1e-3 ", {"train": {"rate": 0.001}}),
        ("train.optimizer=adam", {"train": {"optimizer": "adam"}}),
        ('train.optimizer="a=b"', {"train": {"optimizer": "a=b"}}),
        ("train.optimizer=", {"train": {"optimizer": ""}}),
        ("widths=[64, 32]", {"widths": (64, 32)}),
        ("train={epochs = 2, rate = 0.5}", {"train": {"epochs": 2, "rate": 0.5}}),
        ("name=7.x", {"name": "7.x"}),
    ],
)
def test_an_override_replaces_one_key(tmp_path: Path, override: str, expected: dict[str, Any]) -> None:
    assert load(tmp_path, 'name = "a"', override) == Config.model_validate({"name": "a", **expected})


def test_the_last_override_wins_and_others_stay(tmp_path: Path) -> None:
    config = load(tmp_path, 'name = "a"\n[train]\nrate = 0.5\nepochs = 2\n', "train.epochs=3", "train.epochs=4")
    assert config.train == Train(epochs=4, rate=0.5)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs", "--set 'train.epochs': expected key=value, for example --set train.epochs=5"),
        ("=5", "--set '=5': expected key=value, for example --set train.epochs=5"),
        ("name.first=5", "--set 'name.first=5': name is a value, not a table of keys"),
    ],
)
def test_a_malformed_override_is_refused(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, 'name = "a"', override)
    assert str(error.value) == message


def test_overrides_are_checked_like_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, 'name = "a"', "train.epoch=5", "train.epochs=many", "other.key=1")
    assert str(error.value) == (
        f"{tmp_path}/config.toml: "
        "train.epochs: input should be a valid integer, unable to parse string as an integer, received 'many'; "
        "train.epoch: unknown key, remove it or correct its spelling; "
        "other: unknown key, remove it or correct its spelling"
    )


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_toml(Config, tmp_path / "absent.toml")
    assert str(error.value) == f"{tmp_path}/absent.toml is missing: expected a TOML file"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"name = ", "Invalid value (at end of document)"),
        (b'name = "\xff"', "'utf-8' codec can't decode byte 0xff in position 8: invalid start byte"),
    ],
)
def test_what_is_no_toml_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "config.toml").write_bytes(content)
    with pytest.raises(ConfigError) as error:
        load_toml(Config, tmp_path / "config.toml")
    assert str(error.value) == f"{tmp_path}/config.toml is no TOML: {reason}"
