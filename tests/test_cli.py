"""The command as a user meets it: one line per mistake, exit code 2, nothing half-written."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer.main

from recsys.cli import app, main
from recsys.dataset import Dataset
from recsys.run import Run

README = Path(__file__).parents[1] / "README.md"
DATA_TOML = '[interactions]\nuser_id = "user"\nitem_id = "item"\ntimestamp = "time"\n'


class Shell:
    """Runs `recsys …` in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """Returns exit code, stdout and stderr."""
        self._capsys.readouterr()
        self._monkeypatch.setattr(sys, "argv", ["recsys", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        output = self._capsys.readouterr()
        return code or 0, output.out, output.err

    def refusal(self, *arguments: object) -> str:
        """Requires exit code 2, no result and one line on stderr, and returns that line."""
        code, out, err = self(*arguments)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1, err
        return err.strip()


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capsys)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A folder with ratings.csv and its data.toml, 300 rows."""
    folder = tmp_path / "raw"
    folder.mkdir()
    rows = [(f"u{n % 20}", f"i{n * 7 % 30}", 1_000 + n) for n in range(300)]
    pd.DataFrame(rows, columns=["user", "item", "time"]).to_csv(folder / "ratings.csv", index=False)
    (folder / "data.toml").write_text(DATA_TOML)
    return folder


def test_prepare_reads_a_csv_by_its_schema(shell: Shell, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, printed, _ = shell("prepare", table / "ratings.csv", "--schema", table / "data.toml", "--out", out)
    assert code == 0
    assert "300" in printed
    assert "20; 20 in test" in printed
    assert json.loads((out / "manifest.json").read_text())["statistics"]["items"] == 30


def test_without_validation_its_rows_train(shell: Shell, table: Path, tmp_path: Path) -> None:
    rows = {}
    for name, options in (("some", ()), ("last", ("--no-validation",))):
        out = tmp_path / name
        code, printed, _ = shell(
            "prepare", table / "ratings.csv", "--schema", table / "data.toml", "--out", out, *options
        )
        assert code == 0
        assert ("no validation" in printed) == bool(options)
        splits = json.loads((out / "manifest.json").read_text())["splits"]
        rows[name] = {split: sum(shard["num_rows"] for shard in shards) for split, shards in splits.items()}
    assert rows["some"]["validation"] > 0
    both = rows["some"]["train"] + rows["some"]["validation"]
    assert rows["last"] == {"train": both, "validation": 0, "test": rows["some"]["test"]}


@pytest.mark.slow
def test_prepare_with_beam_hands_its_options_on(shell: Shell, table: Path, tmp_path: Path) -> None:
    arguments = ("prepare", table / "ratings.csv", "--schema", table / "data.toml", "--engine", "beam")
    said = shell.refusal(*arguments, "--out", tmp_path / "out", "--direct_num_worker=2")
    assert said == "recsys: Beam has no option --direct_num_worker: correct or remove it"
    code, printed, _ = shell(*arguments, "--out", tmp_path / "out", "--runner", "DirectRunner")
    assert code == 0
    assert "20; 20 in test" in printed


def test_options_of_beam_need_its_engine(shell: Shell, table: Path, tmp_path: Path) -> None:
    said = shell.refusal("prepare", table / "ratings.csv", "--out", tmp_path / "out", "--runner", "DirectRunner")
    assert said.startswith("recsys: No such option: --runner")


def test_a_missing_source_is_one_line(shell: Shell, table: Path, tmp_path: Path) -> None:
    missing = table / "none.csv"
    said = shell.refusal("prepare", missing, "--schema", table / "data.toml", "--out", tmp_path / "out")
    assert said == (
        f"recsys: {missing} is missing: expected a file (.csv, .tsv, .jsonl (plain or .gz) or .parquet), a folder, "
        "a glob, tfds:NAME or synthetic:"
    )
    assert sorted(tmp_path.iterdir()) == [table]


def test_a_missing_column_is_named(shell: Shell, table: Path, tmp_path: Path) -> None:
    (table / "ratings.csv").write_text("user,item\na,b\n")
    said = shell.refusal("prepare", table / "ratings.csv", "--schema", table / "data.toml", "--out", tmp_path / "out")
    assert said == f"recsys: {table / 'ratings.csv'} lacks the columns time: it has item, user"
    assert sorted(tmp_path.iterdir()) == [table]


def test_an_empty_table_is_refused(shell: Shell, table: Path, tmp_path: Path) -> None:
    (table / "ratings.csv").write_text("user,item,time\n")
    said = shell.refusal("prepare", table / "ratings.csv", "--schema", table / "data.toml", "--out", tmp_path / "out")
    assert said == f"recsys: {table / 'ratings.csv'} is empty: expected at least one row"
    assert sorted(tmp_path.iterdir()) == [table]


def test_an_unknown_source_needs_a_schema(shell: Shell, table: Path, tmp_path: Path) -> None:
    source = table / "ratings.csv"
    assert shell.refusal("prepare", source, "--out", tmp_path / "out") == (
        f"recsys: no schema is known for {source}: say which column is what in a file, --schema data.toml (--infer "
        "drafts one), or name a shipped one: amazon-beauty, gowalla, movielens, synthetic"
    )


@pytest.mark.parametrize("share", ["nan", "-3", "1.5"])
def test_a_share_of_bad_rows_is_one(shell: Shell, table: Path, tmp_path: Path, share: str) -> None:
    out = tmp_path / "out"
    arguments = ("--schema", table / "data.toml", "--out", out, f"--max-bad-fraction={share}")
    said = shell.refusal("prepare", table / "ratings.csv", *arguments)
    assert said == f"recsys: --max-bad-fraction {float(share)}: expected a share between 0 and 1"


def test_an_empty_source_is_no_shipped_one(shell: Shell, tmp_path: Path) -> None:
    assert shell.refusal("prepare", "", "--out", tmp_path / "out").startswith("recsys: no schema is known for")


def test_an_existing_output_is_kept(shell: Shell, table: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    said = shell.refusal("prepare", table / "ratings.csv", "--schema", table / "data.toml", "--out", tmp_path / "out")
    assert (
        said == f"recsys: {tmp_path / 'out'} exists: expected a new directory; choose another name or remove it first"
    )
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_all_wrong_keys_are_reported_together(shell: Shell, tiny_dataset: Dataset, tmp_path: Path) -> None:
    config = tmp_path / "bad.toml"
    config.write_text('[train]\nepochs = 0\nbatchsize = 3\n[loss]\ntemperature = "hot"\n[unknown]\n')
    said = shell.refusal(
        "train", config, "--dataset", tiny_dataset.path, "--out", tmp_path / "run", "--set", "model.embedding_dim=-1"
    )
    assert said == (
        f"recsys: {config}: model.embedding_dim: input should be greater than or equal to 1, received -1; "
        "loss.temperature: input should be a valid number, unable to parse string as a number, received 'hot'; "
        "train.epochs: input should be greater than or equal to 1, received 0; "
        "train.batchsize: unknown key, remove it or correct its spelling; "
        "unknown: unknown key, remove it or correct its spelling"
    )
    assert not (tmp_path / "run").exists()


def test_a_dataset_of_another_format_is_refused(shell: Shell, tiny_dataset: Dataset, tmp_path: Path) -> None:
    copy = tmp_path / "future"
    shutil.copytree(tiny_dataset.path, copy)
    manifest = json.loads((copy / "manifest.json").read_text()) | {"format_version": 99}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    config = tmp_path / "any.toml"
    config.touch()
    said = shell.refusal("train", config, "--dataset", copy, "--out", tmp_path / "run")
    assert said == f"recsys: {copy} has format version 99: expected 2; prepare it again with this release"
    assert not (tmp_path / "run").exists()


def test_a_run_directory_that_exists_is_kept(shell: Shell, tiny_run: Run, tmp_path: Path) -> None:
    config = tmp_path / "any.toml"
    config.touch()
    said = shell.refusal("train", config, "--dataset", tiny_run.dataset.path, "--out", tiny_run.path)
    assert said == f"recsys: {tiny_run.path} exists: expected a new directory; choose another name or remove it first"
    assert (tiny_run.path / "model").is_dir()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_is_one_line_whatever_is_written(shell: Shell, tiny_run: Run, tmp_path: Path) -> None:
    said = "recsys: there is no room to write (No space left on device): expected room for all output; make room, or "
    run = tmp_path / "run"
    shutil.copytree(tiny_run.path, run)
    (run / ".metrics.json.partial").symlink_to("/dev/full")
    assert shell.refusal("evaluate", run) == f"{said}choose another place"
    assert not list(run.glob("*metrics.json*"))
    shutil.rmtree(run / "model")
    (run / "history.csv").unlink()
    (run / "history.csv").symlink_to("/dev/full")
    to = ("--dataset", tiny_run.dataset.path, "--out", run, "--resume")
    assert shell.refusal("train", run / "config.toml", *to) == f"{said}choose another place"
    assert not (run / "model").exists()


def test_evaluating_beyond_the_catalogue_is_refused(shell: Shell, tiny_run: Run) -> None:
    said = shell.refusal("evaluate", tiny_run.path, "--k", "10,100000")
    items = tiny_run.dataset.items.num_rows
    assert said == f"recsys: k = 100000 is larger than the catalogue: expected at most {items}"


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("train.validation_metric=ndcg@5000", "k = 5000 is larger than the catalogue: expected at most {items}"),
        (
            "model.candidate={use_id = false, content_features = false}",
            "the candidate tower has no feature: expected use_id, or content_features and a schema with some",
        ),
    ],
)
def test_a_refused_training_leaves_no_run(
    shell: Shell, tiny_dataset: Dataset, tmp_path: Path, override: str, complaint: str
) -> None:
    config = tmp_path / "any.toml"
    config.touch()
    said = shell.refusal("train", config, "--dataset", tiny_dataset.path, "--out", tmp_path / "r", "--set", override)
    assert said == "recsys: " + complaint.format(items=tiny_dataset.items.num_rows)
    assert sorted(tmp_path.iterdir()) == [config]


def test_a_failed_prepare_leaves_no_parent_folder(shell: Shell, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "er" / "out"
    shell.refusal("prepare", table / "none.csv", "--schema", table / "data.toml", "--out", out)
    assert sorted(tmp_path.iterdir()) == [table]


def test_an_output_below_a_file_is_refused(shell: Shell, table: Path) -> None:
    out = table / "ratings.csv" / "out"
    said = shell.refusal("prepare", table / "ratings.csv", "--schema", table / "data.toml", "--out", out)
    assert said == (
        f"recsys: {out} cannot be made ({table / 'ratings.csv'} is a file): expected a place where one may write"
    )


@pytest.mark.slow
@pytest.mark.parametrize("items", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_a_small_catalogue_goes_all_the_way_with_the_defaults(shell: Shell, tmp_path: Path, items: int) -> None:
    """Titles with brackets and colons are printed as they are; a column may be called `item`."""
    drawn = np.random.default_rng(0).integers(items, size=800)
    rows = [(f"u{n % 97}", f"i{item}", f"[b]{item}[/x] :smile:", n) for n, item in enumerate(drawn)]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "item", "timestamp"])
    frame.to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "data.toml").write_text('[items]\nshow = ["item"]\n')
    (tmp_path / "config.toml").write_text("[train]\nepochs = 1\n")
    schema, data, run = tmp_path / "data.toml", tmp_path / "data", tmp_path / "run"
    assert shell("prepare", tmp_path / "rows.parquet", "--schema", schema, "--out", data)[0] == 0
    assert shell("train", tmp_path / "config.toml", "--dataset", data, "--out", run)[0] == 0
    assert shell("export", run, "--models", tmp_path / "models", "--name", "mine")[0] == 0
    code, printed, _ = shell("recommend", tmp_path / "models" / "mine", "--user", "[/u]", "-k", "3")
    assert code == 0
    assert "For user [/u] (unknown to this model; what is popular of late)" in printed
    assert len(re.findall(r"i(\d+) +\[b\]\1\[/x\] :smile: ", printed)) == 3


def test_export_takes_other_index_settings(shell: Shell, tiny_run: Run, tmp_path: Path) -> None:
    options = ("--set", "index.max_query_ms=0.000001")
    said = shell.refusal("export", tiny_run.path, "--models", tmp_path / "m", "--name", "tiny", *options)
    assert "within 1e-06 ms per query" in said
    assert not (tmp_path / "m").exists()


def test_export_refuses_settings_that_it_does_not_use(shell: Shell, tiny_run: Run, tmp_path: Path) -> None:
    options = ("--set", "train.epochs=3", "--set", "bundle.user_items=perhaps")
    said = shell.refusal("export", tiny_run.path, "--models", tmp_path / "m", "--name", "tiny", *options)
    assert said == (
        "recsys: --set: bundle.user_items: input should be a valid boolean, unable to interpret input, received "
        "'perhaps'; train: unknown key, remove it or correct its spelling"
    )


def test_export_names_a_missing_package(
    shell: Shell, tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    said = shell.refusal("export", tiny_run.path, "--models", tmp_path / "m", "--name", "tiny", "--tflite", "--onnx")
    reason = "import of onnxruntime halted; None in sys.modules"
    assert said == f"recsys: --onnx needs tf2onnx and onnxruntime ({reason}): pip install 'recsys[onnx]'"
    assert not (tmp_path / "m").exists()


def test_a_model_name_that_leaves_its_folder_is_refused(shell: Shell, tiny_run: Run, tmp_path: Path) -> None:
    said = shell.refusal("export", tiny_run.path, "--models", tmp_path / "m", "--name", "../other")
    expected = "expected letters, digits, dots, dashes and underscores, a folder's name"
    assert said == f"recsys: --name '../other': {expected}"


def test_no_verb_prints_the_help_and_no_error(shell: Shell) -> None:
    code, printed, complaint = shell()
    assert (code, complaint) == (2, "")
    assert "recommend" in printed


def test_recommending_beyond_the_catalogue_is_refused(shell: Shell, tiny_run: Run, tiny_models: Path) -> None:
    items = tiny_run.dataset.items.num_rows
    said = shell.refusal("recommend", tiny_models / "tiny", "--user", "u1", "-k", items + 1)
    assert said == f"recsys: k = {items + 1}: expected 1 … {items} (the catalogue has {items} items)"


def test_recommend_writes_a_file_of_all_users(shell: Shell, tiny_run: Run, tiny_models: Path, tmp_path: Path) -> None:
    out = tmp_path / "best.parquet"
    code, printed, said = shell("recommend", tiny_models / "tiny", "--all-users", "--out", out, "-k", "3")
    assert (code, printed) == (0, f"{out}: 150 users\n")
    assert said.startswith("recommending  150 users  ")
    assert pd.read_parquet(out)["user_id"].nunique() == tiny_run.dataset.users.num_rows == 150
    said = shell.refusal("recommend", tiny_models / "tiny", "--all-users", "--out", out)
    assert said == f"recsys: {out} exists: expected a new file; choose another name or remove it first"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            ["--all-users"],
            "--all-users and --out go together: expected --all-users --out best.parquet",
        ),
        (
            ["--out", "x"],
            "--all-users and --out go together: expected --all-users --out best.parquet",
        ),
        (
            ["--all-users", "--out", "x", "--user", "u1", "--json"],
            "--all-users asks for everybody: leave --user, --json away",
        ),
        (
            ["--all-users", "--out", "x", "--history", "i1", "--exclude", "i2"],
            "--all-users asks for everybody: leave --history, --exclude away",
        ),
    ],
)
def test_options_of_one_user_and_of_all_do_not_mix(
    shell: Shell, tiny_models: Path, options: list[str], complaint: str
) -> None:
    assert shell.refusal("recommend", tiny_models / "tiny", *options) == f"recsys: {complaint}"


def test_a_bundle_of_other_versions_is_refused(shell: Shell, tiny_models: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_models / "tiny", tmp_path / "tiny")
    file = tmp_path / "tiny" / "1" / "assets.extra" / "bundle.json"
    record = json.loads(file.read_text())
    installed = record["versions"]
    file.write_text(json.dumps(record | {"versions": {"tensorflow": "2.19.0", "scann": "1.4.0"}}))
    said = shell.refusal("recommend", tmp_path / "tiny", "--user", "u1")
    assert said == (
        f"recsys: {tmp_path / 'tiny' / '1'} was made by scann 1.4.0, tensorflow 2.19.0: installed are "
        f"scann {installed['scann']}, tensorflow {installed['tensorflow']}; install those or export it again"
    )


def test_a_wrong_option_is_one_line(shell: Shell) -> None:
    assert (
        shell.refusal("prepare", "x.csv", "--outt", "y") == "recsys: No such option: --outt (Possible options: --out)"
    )


def test_recommend_shows_titles(shell: Shell, tiny_run: Run, tiny_models: Path) -> None:
    code, printed, _ = shell("recommend", tiny_models / "tiny", "--user", "u3", "-k", "4", "--json")
    answer = json.loads(printed)
    titles = dict(
        zip(tiny_run.dataset.items["item"].to_pylist(), tiny_run.dataset.items["show_title"].to_pylist(), strict=True)
    )
    assert code == 0
    assert answer["known"]
    assert [item["shown"]["title"] for item in answer["items"]] == [titles[item["item_id"]] for item in answer["items"]]
    assert len(answer["items"]) == 4
    assert (
        answer["items"][0]["shown"]["title"] in shell("recommend", tiny_models / "tiny", "--user", "u3", "-k", "4")[1]
    )


def test_evaluate_prints_json(shell: Shell, tiny_run: Run, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run.path, tmp_path / "run")
    code, printed, _ = shell("evaluate", run, "--split", "validation", "--k", "5", "--json")
    result = json.loads(printed)
    assert code == 0
    assert result["ks"] == [5]
    assert set(result["protocols"]) == {"event", "user"}


def test_every_verb_is_in_the_readme_with_its_help_example(shell: Shell) -> None:
    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    readme = README.read_text(encoding="utf-8")
    for verb in verbs:
        code, printed, _ = shell(verb, "--help")
        assert code == 0
        example = re.search(rf"Example: (recsys {verb}.*)", printed)
        assert example is not None, verb
        assert f"recsys {verb}" in readme, verb
        for path in re.findall(r"experiments/\w+/[\w-]+\.toml", "".join(printed.split())):
            assert (README.parent / path).is_file(), path


def test_the_readmes_configs_and_schemas_exist() -> None:
    for path in re.findall(r"experiments/\w+/[\w-]+\.toml", README.read_text(encoding="utf-8")):
        assert (README.parent / path).is_file(), path


def test_doctor_finds_nothing_wrong_here(shell: Shell) -> None:
    code, printed, _ = shell("doctor")
    assert code == 0
    assert all(line.startswith("ok ") for line in printed.splitlines())
