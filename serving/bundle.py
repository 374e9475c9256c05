"""A bundle on disk: one SavedModel, and `assets.extra/bundle.json`, which ties its parts together by digest.

`<models>/<name>/<version>/` is found through ScaNN; its twin `<models>/<name>/exact/<version>/` has the same
signatures, searches exactly and needs nothing but TensorFlow. Both are laid out for TensorFlow Serving.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
import tensorflow as tf
from pydantic import ValidationError

from recsys.artifacts import json_text, sha256_of, write_json
from recsys.errors import BundleError
from recsys.schema import Frozen
from serving import scann_library  # noqa: F401  registers the ops that a bundle's graph uses

FORMAT_VERSION = 5
TWIN = "exact"
EXTRA = "assets.extra"
ITEMS = f"{EXTRA}/items.parquet"
CANDIDATES = f"{EXTRA}/candidates.parquet"
INDEX_REPORT = f"{EXTRA}/index_report.html"
_USERS = "assets/users.txt"
_RECORD = f"{EXTRA}/bundle.json"


class BundleRecord(Frozen):
    """The content of `bundle.json`.

    Attributes:
      format_version: of this record.
      name: of the model.
      version: of the model.
      kind: whether it is the one that is found through ScaNN, or its twin.
      dataset_sha256: the dataset's manifest.
      towers_sha256: the query tower's numbers and the candidates' embeddings; the twin's are the same.
      num_candidates, embedding_dim, max_k, default_k: sizes.
      index_recall: against exact search at `index_recall_k`, on held-out queries that the index was not tuned on.
      index_recall_low: what it exceeds with 95 % confidence.
      index_num_leaves: its partitions; 1 for brute force, 0 for a twin.
      index_reorder_dtype: the numbers that the best candidates of partitions are compared by.
      index_effort: the `serving.index.Effort` of a query; empty for a twin.
      index_curve: what tuning measured, as `serving.autotune.Measured`, fastest first; empty for a twin.
      index_bytes_per_item: what the index holds in memory per candidate, beside its embedding; 0 for a twin.
      metrics: of the run, as `recsys evaluate` wrote them; empty when it was not evaluated.
      versions: what the graph needs to be loaded.
      files: the SHA-256 of every other file, by its name inside the bundle.
      sha256: of all the fields above.
    """

    format_version: int
    name: str
    version: int
    kind: Literal["index", "twin"]
    dataset_sha256: str
    towers_sha256: str
    num_candidates: int
    embedding_dim: int
    default_k: int
    max_k: int
    index_recall: float
    index_recall_low: float
    index_recall_k: int
    index_num_leaves: int
    index_reorder_dtype: str
    index_effort: dict[str, float]
    index_curve: list[dict[str, float | str]]
    index_bytes_per_item: float
    metrics: dict[str, Any]
    versions: dict[str, str]
    files: dict[str, str]
    sha256: str = ""

    def digest(self) -> str:
        """What `sha256` must be."""
        content = json.dumps(self.model_dump(mode="json", exclude={"sha256"}), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True)
class Bundle:
    """A verified and loaded bundle.

    Attributes:
      path: `<models>/<name>/<version>`.
      record: what `bundle.json` says.
      model: the SavedModel.
    """

    path: Path
    record: BundleRecord
    model: Any

    @property
    def version(self) -> int:
        """The version, which only grows."""
        return int(self.path.name)

    def users(self) -> Iterator[str]:
        """Reads the raw ids of the users it knows, one after the other."""
        with (self.path / _USERS).open(encoding="utf-8", newline="\n") as lines:
            yield from (line.removesuffix("\n") for line in lines)

    @cached_property
    def shown(self) -> dict[str, dict[str, str]]:
        """By item id, the fields that a person sees, the title first."""
        rows = pq.read_table(self.path / ITEMS).to_pylist()
        return {row.pop("item"): {name.removeprefix("show_"): text for name, text in row.items()} for row in rows}


def write_record(folder: Path, fields: dict[str, Any], tools: list[str]) -> BundleRecord:
    """Writes `bundle.json` with the digests of all files that are in `folder` by now.

    Args:
      folder: the bundle's.
      fields: what is not filled in here.
      tools: the distributions that its graph needs to be loaded.
    """
    needed = {tool: version(tool) for tool in tools}
    record = BundleRecord(format_version=FORMAT_VERSION, versions=needed, files=_digests(folder), **fields)
    record = record.model_copy(update={"sha256": record.digest()})
    write_json(folder / _RECORD, record.model_dump(mode="json"))
    return record


def versions(models: Path) -> list[int]:
    """The published versions of a model's folder, ascending."""
    if not models.is_dir():
        return []
    return sorted(int(entry.name) for entry in models.iterdir() if entry.is_dir() and entry.name.isdecimal())


def next_version(models: Path) -> int:
    """The number of the next bundle: no bundle and no twin has had it."""
    return max([0, *versions(models), *versions(models / TWIN)]) + 1


def open_bundle(models: Path, number: int | None = None) -> Bundle:
    """Verifies and loads a version of a model.

    Args:
      models: `<models>/<name>`.
      number: the version; the latest when None.

    Raises:
      BundleError: there is none, it was made by other versions of the tools, it belongs to another place, its twin is
        of other towers, a file is missing, added or changed, or holds another number of candidates.
    """
    published = versions(models)
    if not published:
        raise BundleError(f"{models} holds no bundle: expected a folder per version; make one with `recsys export`")
    if number is not None and number not in published:
        raise BundleError(f"{models} has no version {number}: it has {', '.join(map(str, published))}")
    path = models / str(published[-1] if number is None else number)
    record = _read_record(path)
    _verify_place(path, record)
    _verify_pair(path, record)
    _verify_files(path, record)
    _verify_sizes(path, record)
    return Bundle(path, record, tf.saved_model.load(str(path)))


def _read_record(path: Path) -> BundleRecord:
    file = path / _RECORD
    try:
        text = file.read_bytes().decode("utf-8")
        raw = json.loads(text)
        found = raw.get("format_version")
        if found != FORMAT_VERSION:
            raise BundleError(f"{path} has bundle format {found}: expected {FORMAT_VERSION}; export it again")
        record = BundleRecord.model_validate(raw)
    except FileNotFoundError as error:
        raise BundleError(f"{path} is no bundle: {_RECORD} is missing; export it again") from error
    except (ValidationError, ValueError, AttributeError) as error:
        raise BundleError(f"{file} is damaged ({str(error).splitlines()[0]}); export it again") from error
    installed = {tool: _installed(tool) for tool in record.versions}
    if record.versions != installed:
        made, here = (_listed(versions) for versions in (record.versions, installed))
        raise BundleError(f"{path} was made by {made}: installed are {here}; install those or export it again")
    if record.sha256 != record.digest() or text != json_text(record.model_dump(mode="json")):
        raise BundleError(f"{path} is damaged: {_RECORD} is not as it was written; export it again")
    return record


def _installed(tool: str) -> str:
    try:
        return version(tool)
    except PackageNotFoundError:
        return "missing"


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{tool} {number}" for tool, number in sorted(versions.items()))


def _verify_place(path: Path, record: BundleRecord) -> None:
    """The model's folder may be reached through links; the version's name is what is asked for."""
    place = (record.name, *([TWIN] if record.kind == "twin" else []), str(record.version))
    found = (path.parent.resolve() / path.name).parts[-len(place) :]
    if found != place:
        raise BundleError(
            f"{path} is the bundle {'/'.join(place)}: expected {'/'.join(found)}; "
            "put it in its place or export it again"
        )


def _verify_pair(path: Path, record: BundleRecord) -> None:
    """Compares the towers of a bundle and its twin, where both are there."""
    models = path.parent if record.kind == "index" else path.parent.parent
    other = models / TWIN / path.name if record.kind == "index" else models / path.name
    file = other / _RECORD
    if not file.is_file():
        return
    try:
        towers = json.loads(file.read_bytes())["towers_sha256"]
    except (OSError, ValueError, LookupError, TypeError):  # it will be refused where it is asked for
        return
    if towers != record.towers_sha256:
        raise BundleError(f"{path} and {other} are of different towers: one is of another export; export it again")


def _verify_files(path: Path, record: BundleRecord) -> None:
    found = _digests(path)
    for name in sorted(record.files.keys() | found.keys()):
        if name not in found:
            raise BundleError(f"{path} is damaged: {name} is missing; export it again")
        if name not in record.files:
            raise BundleError(f"{path} is damaged: {name} does not belong to it; export it again")
        if found[name] != record.files[name]:
            raise BundleError(f"{path} is damaged: {name} is not the file that was exported; export it again")


def _verify_sizes(path: Path, record: BundleRecord) -> None:
    for name in [ITEMS, CANDIDATES] if record.kind == "index" else [ITEMS]:
        rows = pq.read_metadata(path / name).num_rows
        if rows != record.num_candidates:
            raise BundleError(
                f"{path} is damaged: {name} has {rows} rows, expected {record.num_candidates}; export it again"
            )
    if record.kind == "index":
        size = pq.read_schema(path / CANDIDATES).field("embedding").type.list_size
        if size != record.embedding_dim:
            raise BundleError(
                f"{path} is damaged: {CANDIDATES} has embeddings of {size} numbers, expected {record.embedding_dim}; "
                "export it again"
            )


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    names = {file.relative_to(folder).as_posix(): file for file in files}
    return {name: sha256_of(file) for name, file in names.items() if name != _RECORD}
