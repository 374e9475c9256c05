"""`recsys quickstart`: the main job on synthetic data, and what came of it."""

import shutil
import time
from importlib import resources
from pathlib import Path

from rich.console import Console

from data_prep.pipeline import prepare
from data_prep.schema_files import load_data_config
from experiments.evaluate import evaluate_run
from experiments.tables import print_dataset, print_evaluation, print_recommendations, stdout
from recsys.artifacts import refuse_existing
from recsys.config import ExperimentConfig, RuntimeConfig
from recsys.dataset import Dataset, open_dataset
from recsys.interactions import Interactions, load_interactions
from recsys.run import open_run
from recsys.toml_config import load_toml
from recsys.training import train
from serving.bundle import open_bundle
from serving.export import export
from serving.recommend import recommend

_SOURCE = "synthetic:"
_MARK = ".recsys-quickstart"
_NAME = "quickstart"
_USERS_SHOWN = 3
_HISTORY_SHOWN = 5


def run_quickstart(out: Path) -> None:
    """Prepares, trains, evaluates, exports and recommends, and prints each result to stdout.

    Raises:
      OutputExistsError: `out` exists and was not made by a quickstart.
    """
    started = time.monotonic()
    console = stdout()
    if (out / _MARK).is_file():
        shutil.rmtree(out)
    refuse_existing(out)
    out.mkdir(parents=True)
    (out / _MARK).touch()

    manifest = prepare(_SOURCE, load_data_config(None, _SOURCE), out / "data")
    print_dataset(console, manifest)
    config = load_toml(ExperimentConfig, Path(str(resources.files("experiments"))) / "configs" / "synthetic.toml")
    train(config, RuntimeConfig(), open_dataset(out / "data"), out / "run")
    run = open_run(out / "run")
    print_evaluation(console, evaluate_run(run, "test", (10, 20)))
    published = export(run, out / "models", _NAME)
    record = published.record
    print(
        f"\nIndex of {record.num_candidates:,} items: recall@{record.index_recall_k} {record.index_recall:.4f} against "
        f"exact search. Published as {published.path}"
    )
    _show_users(console, run.dataset, out / "models" / _NAME)
    print(_next_steps(out, time.monotonic() - started))


def _show_users(console: Console, dataset: Dataset, models: Path) -> None:
    bundle = open_bundle(models)
    interactions = load_interactions(dataset)
    users = dataset.users["user"].to_pylist()
    for row in range(_USERS_SHOWN):
        titles = ", ".join(_latest_titles(dataset, interactions, row))
        answer = recommend(bundle, users[row], 10)
        print_recommendations(console, f"User {users[row]}, who lately took: {titles}", answer["items"])


def _latest_titles(dataset: Dataset, interactions: Interactions, user_row: int) -> list[str]:
    start, stop = interactions.user_start[user_row : user_row + 2]
    items = interactions.item_row[max(start, stop - _HISTORY_SHOWN) : stop]
    return [str(dataset.items["show_title"][int(item)]) for item in items]


def _next_steps(out: Path, seconds: float) -> str:
    return f"""
Done in {seconds:.0f} s. What to try next:
  recsys recommend {out}/models/{_NAME} --user u7 -k 5          another user
  recsys recommend {out}/models/{_NAME} --history i3,i14,i15    somebody new, by what they took
  recsys evaluate {out}/run --split validation                  the split that tuning may look at
  tensorboard --logdir {out}/run/logs                           how training went
  recsys prepare my.csv --schema data.toml --out data/mine      your own data: see the README"""
