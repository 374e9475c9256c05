"""RUN → a published bundle and its twin: tuned, written aside, checked in a fresh process, renamed."""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from recsys.artifacts import new_directory
from recsys.config import ExportConfig
from recsys.dataset import Dataset
from recsys.errors import BundleError, ConfigError, OutputExistsError
from recsys.evaluation import TwoTowerScorer
from recsys.interactions import load_interactions
from recsys.queries import make_queries
from recsys.run import Run
from serving import fresh_process
from serving.autotune import Tuned, build_indices, tune
from serving.bundle import EXTRA, INDEX_REPORT, TWIN, BundleRecord, next_version, write_record
from serving.categories import Categories, each_category
from serving.every_signature import Inputs, ask_every_signature
from serving.index import ExactIndex
from serving.index_report import render_index_report
from serving.popularity import RecentPopularity
from serving.query_tower.files import FormatName, convert_tower, require, write_tower_files
from serving.query_tower.portable import portable_query_tower
from serving.recommender import Parts, Recommender, Signatures
from serving.tables import write_candidates, write_items
from serving.user_states import NoUserStates, UserStates
from serving.warm_up_requests import write_warm_up_requests

_QUERIES = 2000
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


def export(
    run: Run,
    models: Path,
    name: str,
    config: ExportConfig | None = None,
    tower_formats: Sequence[FormatName] = (),
) -> Published:
    """Publishes a run as the next version of `<models>/<name>`.

    Args:
      run: what to publish.
      models: the folder of all models.
      name: the model's folder in it.
      config: how; as the run's configuration says when None.
      tower_formats: in which the query tower is added as a file of its own.

    Raises:
      ConfigError: the name is no folder's name, or a package that a format needs is missing.
      IndexQualityError: the index cannot be tuned to its recall target.
      BundleError: what was written answers otherwise than the model in memory.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ConfigError(f"--name {name!r}: expected letters, digits, dots, dashes and underscores, a folder's name")
    require(tower_formats)
    config = run.config.for_export if config is None else config
    interactions = load_interactions(run.dataset)
    scorer = TwoTowerScorer(run.towers, run.dataset)
    # Where nothing validates, test asks: what is tuned is the search, not the model.
    split = "validation" if run.dataset.manifest.split_rule.validation else "test"
    queries = make_queries(interactions, split, "event").latest_of_users().sample(_QUERIES, _SEED)
    exact = ExactIndex(scorer.candidates.numpy())
    embeddings = scorer.embed(queries, 0, len(queries)).numpy()
    tuned = tune(build_indices(exact, config.index), exact, embeddings, config.index)
    asked = {name: values.numpy() for name, values in scorer.features(queries, 0, len(queries)).items()}
    make_tower = partial(
        portable_query_tower, run.towers, run.dataset.schema, run.config.model, run.dataset.item_features
    )
    tower_files = convert_tower(make_tower, asked, embeddings, tower_formats)
    parts = Parts(
        towers=run.towers,
        dataset=run.dataset,
        states=UserStates(interactions) if config.bundle.user_items else NoUserStates(),
        popularity=RecentPopularity(interactions),
        categories=Categories(run.dataset),
        exact=exact,
    )
    users = _users_to_check(run.dataset)
    with _next_version(models / name) as (target, folder, twin_folder), tempfile.TemporaryDirectory() as scratch:
        recommender, twin = (Recommender(parts, of, Path(scratch)) for of in (tuned.index, exact))
        written = [(_save(saved, place), place) for saved, place in ((twin, twin_folder), (recommender, folder))]
        for place in (folder, twin_folder):
            write_items(run.dataset, place)
            write_warm_up_requests(place, users, run.dataset.items["item"][:64].to_pylist(), parts.default_k)
        write_candidates(run.dataset, exact.candidates.numpy(), folder)
        write_tower_files(tower_files, run.towers, run.dataset, folder)
        report = render_index_report(tuned, config.index, f"{name}, version {target.name}", len(queries) // 2)
        (folder / INDEX_REPORT).write_text(report, encoding="utf-8")
        requests = _requests_to_check(users, run.dataset, parts.default_k)
        fresh_process.check(written, requests)
        fields = _fields(name, int(target.name), run, parts)
        write_record(twin_folder, fields | _found_exactly(tuned.k), ["tensorflow"])
        record = write_record(folder, fields | _found_by(tuned), ["tensorflow", "scann"])
    return Published(target, record)


@contextmanager
def _next_version(models: Path) -> Iterator[tuple[Path, Path, Path]]:
    """Yields where the next bundle will be, and the folders to write it and its twin to until then."""
    number = str(next_version(models))
    target = models / number
    try:
        # The inner one comes first: a twin without its bundle does no harm.
        with new_directory(target) as folder, new_directory(models / TWIN / number) as twin_folder:
            for place in (folder, twin_folder):
                (place / EXTRA).mkdir()
            yield target, folder, twin_folder
    except OutputExistsError as error:
        raise BundleError(f"another export published {target} meanwhile: run this one again") from error


def _save(recommender: Recommender, folder: Path) -> Signatures:
    """Returns the functions that were saved."""
    signatures = recommender.signatures()
    options = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])
    tf.saved_model.save(recommender, str(folder), signatures=signatures, options=options)
    return signatures


def _users_to_check(dataset: Dataset) -> list[str]:
    """An unknown user and a random sample of known ones."""
    users = dataset.users["user"].to_pylist()
    chosen = np.random.default_rng(_SEED).choice(len(users), min(_CHECKED_USERS, len(users)), replace=False)
    return [_UNKNOWN_USER, *(users[row] for row in chosen)]


def _requests_to_check(users: list[str], dataset: Dataset, k: int) -> dict[str, Inputs]:
    """Every other user gives a history, all of them an item to leave out, and every third wants a category."""
    items = np.resize(dataset.items["item"][: len(users)].to_pylist(), len(users))
    history = np.stack([items, np.roll(items, 1)], axis=1)
    history[::2] = ""
    categories = np.resize([next((name for name, _ in each_category(dataset)), ""), "", ""], (len(users), 1))
    return ask_every_signature(np.asarray(users), history, np.roll(items, 2)[:, np.newaxis], categories, items, k)


def _fields(name: str, version: int, run: Run, parts: Parts) -> dict[str, Any]:
    """What a bundle's record and its twin's have in common."""
    num_candidates, embedding_dim = parts.exact.candidates.shape
    return {
        "name": name,
        "version": version,
        "dataset_sha256": run.dataset.fingerprint,
        "towers_sha256": _digest(parts),
        "num_candidates": num_candidates,
        "embedding_dim": embedding_dim,
        "default_k": parts.default_k,
        "max_k": parts.max_k,
        "metrics": _metrics(run.path),
    }


def _digest(parts: Parts) -> str:
    digest = hashlib.sha256()
    for variable in [*parts.towers.query.weights, parts.exact.candidates]:
        digest.update(variable.numpy().tobytes())
    return digest.hexdigest()


def _found_by(tuned: Tuned) -> dict[str, Any]:
    return {
        "kind": "index",
        "index_recall": tuned.chosen.recall,
        "index_recall_low": tuned.chosen.recall_low,
        "index_recall_k": tuned.k,
        "index_num_leaves": tuned.index.num_leaves,
        "index_reorder_dtype": tuned.index.reorder_dtype,
        "index_effort": asdict(tuned.index.effort),
        "index_curve": [asdict(measured) for measured in tuned.curve],
        "index_bytes_per_item": tuned.index.bytes_per_item,
    }


def _found_exactly(k: int) -> dict[str, Any]:
    return {
        "kind": "twin",
        "index_recall": 1.0,
        "index_recall_low": 1.0,
        "index_recall_k": k,
        "index_num_leaves": 0,
        "index_reorder_dtype": "float32",
        "index_effort": {},
        "index_curve": [],
        "index_bytes_per_item": 0.0,
    }


def _metrics(run_path: Path) -> dict[str, Any]:
    """What `recsys evaluate` wrote; nothing when the run was not evaluated."""
    file = run_path / "metrics.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
