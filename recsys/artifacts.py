"""Directories and files that appear under their final name only when complete."""

import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from recsys.errors import OutputError, OutputExistsError

_CHUNK_BYTES = 1 << 20
# Only writing brings these; other errors of a block may come from what it reads.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def refuse_existing(path: Path, kind: Literal["directory", "file"] = "directory") -> None:
    """Refuses an output that cannot be made, before any work is done for it.

    Args:
      path: the output.
      kind: what it is to be.

    Raises:
      OutputExistsError: `path` is already there.
      OutputError: it lies below something that is no directory.
    """
    if path.exists():
        raise OutputExistsError(f"{path} exists: expected a new {kind}; choose another name or remove it first")
    nearest = next(parent for parent in path.absolute().parents if parent.exists())
    if not nearest.is_dir():
        raise OutputError(f"{path} cannot be made ({nearest} is a file): expected a place where one may write")


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yields a directory beside `path` to write into, and renames it to `path` when the block ends well.

    An exception in the block removes what was written. A killed process leaves a directory whose name starts with
    a dot and ends in `.partial-…`, never one that looks complete; the next attempt for the same `path` removes it.

    Args:
      path: the final directory, which must not exist.

    Raises:
      OutputExistsError: `path` exists, before the block or when it ends.
      OutputError: it cannot be made where it should be, or there is no room for what the block writes.
    """
    with _aside(path, "directory") as partial:
        yield partial
        partial.chmod(0o755)
        refuse_existing(path)
        partial.rename(path)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yields the name of a file to write, and renames it to `path` when the block ends well.

    What is left of a killed process, or by an exception, is as for `new_directory`.

    Args:
      path: the final file, which must not exist.

    Raises:
      OutputExistsError: `path` exists, before the block or when it ends.
      OutputError: it cannot be made where it should be, or there is no room for what the block writes.
    """
    with _aside(path, "file") as folder:
        partial = folder / path.name
        yield partial
        refuse_existing(path, "file")
        partial.rename(path)


@contextmanager
def _aside(path: Path, kind: Literal["directory", "file"]) -> Iterator[Path]:
    """Yields a directory beside `path` that is gone afterwards; the block moves what it has made of it to `path`."""
    refuse_existing(path, kind)
    new_parents = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        partial, lock = _locked_directory(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be made ({error.strerror}): expected a place where one may write") from error
    try:
        with _telling_no_room(path):
            yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        for parent in new_parents:
            if not any(parent.iterdir()):
                parent.rmdir()
        os.close(lock)


def _locked_directory(path: Path) -> tuple[Path, int]:
    """Makes a directory beside `path`, opened and locked: the lock ends when it is closed, and with this process."""
    while True:
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.parent))
        # Not yet locked, another attempt may take it for an abandoned one.
        with suppress(FileNotFoundError):
            opened = os.open(partial, os.O_RDONLY)
            with suppress(OSError):  # on a file system without locks nothing is ever taken for abandoned
                fcntl.flock(opened, fcntl.LOCK_EX)
            if partial.exists():
                return partial, opened
            os.close(opened)


def _remove_abandoned(path: Path) -> None:
    """Removes what killed attempts for `path` have left: directories that nobody has locked."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.partial-*"):
        with suppress(OSError):  # it is locked, or gone meanwhile
            opened = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(partial, ignore_errors=True)
            finally:
                os.close(opened)


@contextmanager
def _telling_no_room(path: Path) -> Iterator[None]:
    """Turns the errors of a full disk, a quota or a limit on files into one line; others pass."""
    try:
        yield
    except Exception as error:
        reason = no_room(error)
        if reason is None:
            raise
        raise OutputError(
            f"{path} cannot be written ({reason}): expected room for all of it; make room, or choose another place"
        ) from error


def no_room(error: Exception) -> str | None:
    """Why there is no room; None for all other errors. TensorFlow's have no number, only its text."""
    tf = sys.modules.get("tensorflow")  # where nobody has imported it, no error is one of its own
    for number in _NO_ROOM:
        reason = os.strerror(number)
        by_tensorflow = tf is not None and isinstance(error, tf.errors.OpError) and f"; {reason}" in str(error)
        if by_tensorflow or (isinstance(error, OSError) and error.errno == number):
            return reason
    return None


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON with sorted keys; a reader sees the old file or the new one, never a part."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(json_text(value), encoding="utf-8")
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def json_text(value: Any) -> str:
    """Returns what `write_json` writes: one text for one value."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"


def sha256_of(path: Path) -> str:
    """Returns the hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
