"""Components that are chosen by name, and options that would change nothing."""

from importlib import resources
from pathlib import Path

import pytest

from recsys.config import ExperimentConfig, GruEncoder, MeanEncoder, RecencyEncoder, RuntimeConfig, SelfAttentionEncoder
from recsys.errors import ConfigError
from recsys.loss_config import FullLossConfig, InBatchLossConfig
from recsys.toml_config import load_toml


def load(folder: Path, text: str, *overrides: str) -> ExperimentConfig:
    (folder / "config.toml").write_text(text)
    return load_toml(ExperimentConfig, folder / "config.toml", overrides)


@pytest.mark.parametrize(
    ("text", "encoder"),
    [
        ("", MeanEncoder()),
        ('name = "recency"\nhalf_life = 3', RecencyEncoder(half_life=3)),
        ('name = "gru"\ndropout = 0.5', GruEncoder(dropout=0.5)),
        ('name = "self_attention"\nheads = 4', SelfAttentionEncoder(heads=4)),
    ],
)
def test_an_encoder_is_chosen_by_its_name(tmp_path: Path, text: str, encoder: object) -> None:
    text = f"[model.history.encoder]\n{text}" if text else ""
    assert load(tmp_path, text).model.history.encoder == encoder


def test_a_loss_is_chosen_by_its_name_or_is_the_in_batch_softmax(tmp_path: Path) -> None:
    assert load(tmp_path, "").loss == InBatchLossConfig()
    assert load(tmp_path, "[loss]\ntemperature = 0.5").loss == InBatchLossConfig(temperature=0.5)
    text = '[loss]\nname = "full_softmax"\ntemperature = 0.5'
    assert load(tmp_path, text).loss == FullLossConfig(temperature=0.5)
    assert load(tmp_path, "", "loss.name=full_softmax").loss == FullLossConfig()


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("model.history.encoder={name = 'mean', dropout = 0.1}", "model.history.encoder.dropout"),
        ("model.history.encoder={name = 'gru', heads = 2}", "model.history.encoder.heads"),
        ("loss={name = 'full_softmax', log_q = true}", "loss.log_q"),
    ],
)
def test_an_option_of_another_component_is_refused(tmp_path: Path, override: str, key: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, "", override)
    expected = f"{tmp_path}/config.toml: {key}: unknown key, remove it or correct its spelling"
    assert str(error.value) == expected


def test_heads_divide_the_embedding(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, "[model]\nembedding_dim = 10\nhistory.encoder = {name = 'self_attention', heads = 4}")
    assert str(error.value) == (
        f"{tmp_path}/config.toml: model: history.encoder.heads = 4 must divide embedding_dim = 10"
    )


@pytest.mark.parametrize(
    ("toml", "examples", "loss"),
    [
        ("[train]\nexamples = 'sets'", "sets", "in_batch_softmax"),
        ("[loss]\nname = 'unseen_softmax'", "interactions", "unseen_softmax"),
    ],
)
def test_sets_and_their_loss_come_together(tmp_path: Path, toml: str, examples: str, loss: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, toml)
    assert str(error.value) == (
        f"{tmp_path}/config.toml: the file: train.examples = '{examples}' and loss.name = '{loss}': expected 'sets' "
        "and 'unseen_softmax' together, or neither"
    )
    both = load(tmp_path, "[train]\nexamples = 'sets'\nhidden = 0.3\n[loss]\nname = 'unseen_softmax'")
    assert (both.train.examples, both.train.hidden) == ("sets", 0.3)


def test_what_has_no_meaning_together_is_refused(tmp_path: Path) -> None:
    sets = "[train]\nexamples = 'sets'\n[loss]\nname = 'unseen_softmax'\n[model]\nnormalize = false"
    for toml, complaint in (
        (
            sets,
            "the file: loss.name = 'unseen_softmax' has no lower bound for longer embeddings: expected "
            "model.normalize = true",
        ),
        (
            "[model]\nitem_bias = true\nembedding_dim = 1",
            "model: item_bias takes one unit of embedding_dim = 1: expected 2 units or more",
        ),
    ):
        with pytest.raises(ConfigError) as error:
            load(tmp_path, toml)
        assert str(error.value) == f"{tmp_path}/config.toml: {complaint}"


@pytest.mark.parametrize(
    ("section", "option", "needs", "beside"),
    [
        ("loss", "streaming_rate = 0.5", "log_q = 'streaming'", "log_q = 'streaming'"),
        ("loss.negatives", "hard_depth = 7", "hard above 0", "hard = 1"),
        ("loss.negatives", "popularity_power = 0.5", "popular above 0", "popular = 1"),
        ("model.query", "id_dropout = 0.5", "use_id = true", None),
        ("model.candidate", "id_dropout = 0.5", "use_id = true", None),
        ("model.query", "dropout = 0.5", "hidden_units", "hidden_units = [8]"),
        ("train", "hidden = 0.7", "examples = 'sets'", "examples = 'sets'\n[loss]\nname = 'unseen_softmax'"),
    ],
)
def test_an_option_that_nothing_reads_is_refused(
    tmp_path: Path, section: str, option: str, needs: str, beside: str | None
) -> None:
    """With what reads it, it is read; so is a resolved configuration, which spells out every default."""
    idle = f"[{section}]\n{option}\n" + ("use_id = false" if beside is None else "")
    with pytest.raises(ConfigError) as error:
        load(tmp_path, idle)
    assert str(error.value) == (
        f"{tmp_path}/config.toml: {section}: {option} changes nothing: expected {needs} beside it; add that, "
        "or remove it"
    )
    config = load(tmp_path, f"[{section}]\n{option}\n{beside or ''}")
    assert ExperimentConfig.model_validate(config.model_dump()) == config
    assert load(tmp_path, "[model.query]\nuse_id = false\nid_dropout = 0.1").model.query.id_dropout == 0.1


def test_profiled_batches_come_in_order(tmp_path: Path) -> None:
    file = tmp_path / "runtime.toml"
    file.write_text("profile_batches = [3, 3]", encoding="utf-8")
    assert load_toml(RuntimeConfig, file).profile_batches == (3, 3)
    file.write_text("profile_batches = [3, 2]", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_toml(RuntimeConfig, file)
    assert str(error.value) == f"{file}: the file: profile_batches = [3, 2]: expected the first batch, then the last"


def test_shipped_files_are_valid() -> None:
    for model, folder in ((ExperimentConfig, "configs"), (RuntimeConfig, "runtimes")):
        files = list(Path(str(resources.files("experiments"))).joinpath(folder).glob("*.toml"))
        assert files
        for file in files:
            load_toml(model, file)


def test_one_number_of_leaves_is_a_choice_too(tmp_path: Path) -> None:
    """As runs of former versions wrote it."""
    assert load(tmp_path, "[index]\nleaves_per_sqrt_item = 1.5").index.leaves_per_sqrt_item == (1.5,)
    assert load(tmp_path, "[index]\nleaves_per_sqrt_item = [1, 3]").index.leaves_per_sqrt_item == (1.0, 3.0)
