"""RUN → a published bundle and its twin: index, SavedModels, check in a fresh process, rename."""

import json
import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import tensorflow as tf

from recsys.artifacts import new_directory
from recsys.config import MAX_K, IndexConfig
from recsys.dataset import Dataset
from recsys.errors import BundleError, ConfigError, OutputExistsError
from recsys.evaluation import TwoTowerScorer
from recsys.interactions import load_interactions
from recsys.queries import make_queries
from recsys.run import Run
from serving import fresh_process
from serving.autotune import build_tuned
from serving.bundle import ITEMS, TWIN, BundleRecord, next_version, write_record
from serving.categories import Categories
from serving.curve_plot import plot_curve
from serving.index import ExactIndex
from serving.popularity import RecentPopularity
from serving.recommender import SIGNATURES, Recommender
from serving.user_states import UserStates
from serving.warm_up_requests import write_warm_up_requests

_DEFAULT_K = 100
_TUNING_QUERIES = 2000
_CHECKED_USERS = 63
_UNKNOWN_USER = "\N{REPLACEMENT CHARACTER} a user nobody knows"
_SEED = 0


@dataclass(frozen=True)
class Published:
    """A bundle that is now being offered.

    Attributes:
      path: `<models>/<name>/<version>`; the twin is `<models>/<name>/exact/<version>`.
      record: its `bundle.json`.
    """

    path: Path
    record: BundleRecord


def export(run: Run, models: Path, name: str, index_config: IndexConfig | None = None) -> Published:
    """Publishes a run as the next version of `<models>/<name>`.

    Args:
      run: what to publish.
      models: the folder of all models.
      name: the model's folder in it.
      index_config: how to index; as the run's configuration says when None.

    Raises:
      ConfigError: the name is no folder's name.
      IndexQualityError: the index cannot be tuned to its recall target.
      BundleError: the written bundle answers otherwise than the model in memory.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ConfigError(f"--name {name!r}: expected letters, digits, dots, dashes and underscores, a folder's name")
    interactions = load_interactions(run.dataset)
    scorer = TwoTowerScorer(run.towers, run.dataset)
    candidates = scorer.candidates.numpy()
    index_config = run.config.index if index_config is None else index_config
    exact = ExactIndex(candidates)
    queries = make_queries(interactions, "validation", "event").sample(_TUNING_QUERIES, _SEED)
    index, tuned = build_tuned(exact, scorer.embed(queries, 0, len(queries)).numpy(), index_config)
    num_candidates, embedding_dim = candidates.shape
    default_k, max_k = min(_DEFAULT_K, num_candidates), min(MAX_K, num_candidates)
    fields = {
        "name": name,
        "dataset_sha256": run.dataset.fingerprint,
        "num_candidates": num_candidates,
        "embedding_dim": embedding_dim,
        "default_k": default_k,
        "max_k": max_k,
        "metrics": _metrics(run.path),
    }
    measured = {
        "index_recall": tuned.chosen.recall,
        "index_recall_low": tuned.chosen.recall_low,
        "index_recall_k": tuned.k,
        "index_effort": asdict(tuned.chosen.effort),
        "index_curve": [asdict(measured) for measured in tuned.curve],
        "index_bytes_per_item": index.bytes_per_item,
    }
    complete = {
        "index_recall": 1.0,
        "index_recall_low": 1.0,
        "index_recall_k": tuned.k,
        "index_effort": {},
        "index_curve": [],
        "index_bytes_per_item": 0.0,
    }
    states, popularity, categories = UserStates(interactions), RecentPopularity(interactions), Categories(run.dataset)
    users = _users_to_check(run.dataset)
    number = next_version(models / name)
    target, twin_target = models / name / str(number), models / name / TWIN / str(number)
    try:
        with (
            new_directory(target) as folder,
            new_directory(twin_target) as twin_folder,  # which comes first: without the bundle it does no harm
            tempfile.TemporaryDirectory() as scratch,
        ):
            recommender, twin = (
                Recommender(
                    run.towers, run.dataset, states, popularity, categories, of, exact, Path(scratch), default_k, max_k
                )
                for of in (index, exact)
            )
            for saved, place in ((recommender, folder), (twin, twin_folder)):
                _save(saved, place)
                _write_items(run.dataset, place)
                write_warm_up_requests(place, users, run.dataset.items["item"][:64].to_pylist(), default_k)
            plot_curve(tuned, index_config, folder)
            fresh_process.check([(twin, twin_folder), (recommender, folder)], users, default_k)
            write_record(twin_folder, fields | complete, ["tensorflow"])
            record = write_record(folder, fields | measured, ["tensorflow", "scann"])
    except OutputExistsError as error:
        raise BundleError(f"another export published {target} meanwhile: run this one again") from error
    return Published(target, record)


def _save(recommender: Recommender, folder: Path) -> None:
    signatures = {name: getattr(recommender, name) for name in SIGNATURES}
    options = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])
    tf.saved_model.save(recommender, str(folder), signatures=signatures, options=options)


def _write_items(dataset: Dataset, folder: Path) -> None:
    """Writes the raw id and the shown fields of each candidate."""
    shown = [name for name in dataset.items.column_names if name.startswith("show_")]
    (folder / ITEMS).parent.mkdir(exist_ok=True)
    pq.write_table(dataset.items.select(["item", *shown]), folder / ITEMS)


def _users_to_check(dataset: Dataset) -> list[str]:
    """An unknown user and a random sample of known ones."""
    users = dataset.users["user"].to_pylist()
    chosen = np.random.default_rng(_SEED).choice(len(users), min(_CHECKED_USERS, len(users)), replace=False)
    return [_UNKNOWN_USER, *(users[row] for row in chosen)]


def _metrics(run_path: Path) -> dict[str, Any]:
    """What `recsys evaluate` wrote; nothing when the run was not evaluated."""
    file = run_path / "metrics.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
