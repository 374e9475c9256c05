"""Files of bytes, plain or gzip, whose failures are one line for the user."""

import codecs
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from recsys.errors import SourceError

# Raw bytes that become one batch: a few hundred thousand short rows.
BLOCK_BYTES = 16 << 20
# A longer row means that the file is no table, and must not fill the memory.
MAX_ROW_BYTES = 256 << 20

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@contextmanager
def open_bytes(location: str) -> Iterator[BinaryIO]:
    """Opens a text file for reading bytes; a name that ends in .gz is decompressed, a byte order mark skipped.

    Raises:
      SourceError: also while the file is being read: it is unreadable, cut short, or UTF-16.
    """
    path = Path(location)
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as opened:
            file = cast(BinaryIO, opened)
            _skip_byte_order_mark(location, file)
            yield file
    except EOFError as error:
        raise SourceError(f"{location} is cut short: its gzip stream has no end, so rows are missing") from error
    except (OSError, zlib.error) as error:
        raise SourceError(f"{location} is not readable: {' '.join(str(error).split())}") from error


def _skip_byte_order_mark(location: str, file: BinaryIO) -> None:
    start = file.read(len(codecs.BOM_UTF8))
    if start.startswith(_UTF_16):
        raise SourceError(f"{location} is UTF-16: expected UTF-8; convert it, for example by iconv")
    if start != codecs.BOM_UTF8:
        file.seek(0)


def is_utf8(data: bytes) -> bool:
    """Whether all of it can be decoded; Arrow finds out without making a string."""
    ends = pa.py_buffer(len(data).to_bytes(8, "little").rjust(16, b"\0"))
    try:
        pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, pa.py_buffer(data)]).cast(pa.large_string())
    except pa.ArrowInvalid:
        return False
    return True


def refuse_endless(location: str, num_bytes: int) -> None:
    """Raises SourceError when so many bytes hold no end of a row."""
    if num_bytes > MAX_ROW_BYTES:
        raise SourceError(
            f"{location} has a row of more than {MAX_ROW_BYTES >> 20} MiB: expected rows that end in a line break"
        )
