"""RUN → a published bundle: index, SavedModel, check in a fresh process, rename."""

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
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
from serving import answer_check
from serving.autotune import tune
from serving.bundle import ITEMS, BundleRecord, versions, write_record
from serving.index import ExactIndex, ScannIndex
from serving.popularity import RecentPopularity
from serving.recommender import Recommender
from serving.user_states import UserStates

_DEFAULT_K = 100
_TUNING_QUERIES = 2000
_CHECKED_USERS = 63
_UNKNOWN_USER = "\N{REPLACEMENT CHARACTER} a user nobody knows"
_ROUNDING = 1e-4
_SEED = 0

Answers = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Published:
    """A bundle that is now being offered.

    Attributes:
      path: `<models>/<name>/<version>`.
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
    index = ScannIndex(candidates, index_config)
    queries = make_queries(interactions, "validation", "event").sample(_TUNING_QUERIES, _SEED)
    embedded = scorer.embed(queries, 0, len(queries)).numpy()
    tuned = tune(index, ExactIndex(candidates), embedded, index_config)
    index.effort = tuned.chosen.effort
    num_candidates, embedding_dim = candidates.shape
    fields = {
        "name": name,
        "dataset_sha256": run.dataset.fingerprint,
        "num_candidates": num_candidates,
        "embedding_dim": embedding_dim,
        "default_k": min(_DEFAULT_K, num_candidates),
        "max_k": min(MAX_K, num_candidates),
        "index_recall": tuned.chosen.recall,
        "index_recall_low": tuned.chosen.recall_low,
        "index_recall_k": tuned.k,
        "index_effort": asdict(tuned.chosen.effort),
        "index_curve": [asdict(measured) for measured in tuned.curve],
        "metrics": _metrics(run.path),
    }
    target = models / name / str(max(versions(models / name), default=0) + 1)
    try:
        with new_directory(target) as folder, tempfile.TemporaryDirectory() as scratch:
            recommender = Recommender(
                run.towers,
                run.dataset,
                UserStates(interactions),
                RecentPopularity(interactions),
                candidates,
                index,
                Path(scratch),
                fields["default_k"],
                fields["max_k"],
            )
            _save(recommender, folder)
            _write_items(run.dataset, folder)
            _check_in_fresh_process(recommender, folder, _users_to_check(run.dataset), fields["default_k"])
            record = write_record(folder, fields)
    except OutputExistsError as error:
        raise BundleError(f"another export published {target} meanwhile: run this one again") from error
    return Published(target, record)


def _save(recommender: Recommender, folder: Path) -> None:
    names = ("serving_default", "recommend", "recommend_exactly", "embed_query", "similar_items")
    signatures = {name: getattr(recommender, name) for name in names}
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


def _check_in_fresh_process(recommender: Recommender, folder: Path, users: list[str], k: int) -> None:
    """Compares what a process that imports only TensorFlow and ScaNN answers with the model in memory."""
    in_memory = answer_check.answer(recommender.recommend, users, k)
    with tempfile.TemporaryDirectory() as scratch:
        requests, answers = Path(scratch) / "requests.npz", Path(scratch) / "answers.npz"
        np.savez(requests, user_id=np.asarray(users), k=np.int32(k))
        # -P keeps this package's folder, whose modules are named after protocols, off the module search path.
        command = [sys.executable, "-P", answer_check.__file__, str(folder), str(requests), str(answers)]
        # This process may hold all of the accelerator's memory.
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
        outcome = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if outcome.returncode:
            last_words = [f"exit code {outcome.returncode}", *outcome.stderr.strip().splitlines()][-1]
            raise BundleError(f"the exported model does not answer in a fresh process: {last_words}")
        if not same_answers(in_memory, dict(np.load(answers))):
            raise BundleError("the exported model answers otherwise than the model in memory; it is not published")


def same_answers(one: Answers, other: Answers) -> bool:
    """Whether two answers agree: equal scores up to rounding, and items that differ only where scores are that close.

    Args:
      one: `item_ids` and `scores`, [batch, k] each.
      other: likewise.
    """
    if not np.allclose(one["scores"], other["scores"], rtol=_ROUNDING, atol=_ROUNDING):
        return False
    columns = (one["item_ids"], one["scores"], other["item_ids"], other["scores"])
    for ids, scores, other_ids, other_scores in zip(*columns, strict=True):
        score_of = dict(zip(ids, scores, strict=True))
        for item, score in zip(other_ids, other_scores, strict=True):
            # An item that is not among the first k may only tie with the last of them.
            if not np.isclose(score_of.get(item, scores[-1]), score, rtol=_ROUNDING, atol=_ROUNDING):
                return False
    return True


def _metrics(run_path: Path) -> dict[str, Any]:
    """What `recsys evaluate` wrote; nothing when the run was not evaluated."""
    file = run_path / "metrics.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
