"""Directories that appear under their final name only when complete."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recsys.errors import OutputError, OutputExistsError

_CHUNK_BYTES = 1 << 20


def refuse_existing(path: Path) -> None:
    """Refuses an output that cannot be made, before any work is done for it.

    Raises:
      OutputExistsError: `path` is already there.
      OutputError: it lies below something that is no directory.
    """
    if path.exists():
        raise OutputExistsError(f"{path} exists: expected a new directory; choose another name or remove it first")
    nearest = next(parent for parent in path.absolute().parents if parent.exists())
    if not nearest.is_dir():
        raise OutputError(f"{path} cannot be made ({nearest} is a file): expected a place where one may write")


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yields a directory beside `path` to write into, and renames it to `path` when the block ends well.

    An exception in the block removes what was written. A killed process leaves a directory whose name starts with
    a dot and ends in `.partial-…`, never one that looks complete.

    Args:
      path: the final directory, which must not exist.

    Raises:
      OutputExistsError: `path` exists, before the block or when it ends.
      OutputError: it cannot be made where it should be.
    """
    refuse_existing(path)
    new_parents = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.parent))
    except OSError as error:
        raise OutputError(f"{path} cannot be made ({error.strerror}): expected a place where one may write") from error
    try:
        yield partial
        partial.chmod(0o755)
        refuse_existing(path)
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        for parent in new_parents:
            if not any(parent.iterdir()):
                parent.rmdir()
        raise


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON with sorted keys; a reader sees the old file or the new one, never a part."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(path)


def sha256_of(path: Path) -> str:
    """Returns the hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
