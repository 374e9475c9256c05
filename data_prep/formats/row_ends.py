r"""Where the rows of delimited text end, when quotes are in order and when they are not.

A row ends with its line (`\n`, `\r\n` or `\r`). A quoted value may hold line breaks, and then its row goes on: if
every quote in it opens or closes a value or is doubled, it has as many columns as the header, and it is shorter than
`MAX_SPAN_BYTES`. Otherwise the quote was a stray one: its line is a row of its own, refused, and the next line starts
afresh. So what becomes of a row depends on the rows before it by at most that many bytes, and never on where a block
of bytes ends.
"""

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_prep.formats.batch import Integers
from data_prep.formats.byte_files import is_utf8

# How far a quoted value with line breaks may reach before its opening quote counts as a stray one.
MAX_SPAN_BYTES = 1 << 20
UNCLOSED_QUOTE = "unclosed quote"
INVALID_UTF8 = "invalid UTF-8"

_QUOTE, _LF, _CR = b'"\n\r'

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Division:
    """A block of bytes, divided row by row.

    Attributes:
      end: where the last whole row ends; what follows belongs to the next block.
      starts: [num_rows] where each row starts.
      reasons: why a row is refused, by its number.
    """

    end: int
    starts: Integers
    reasons: dict[int, str]

    def text(self, block: bytes, row: int) -> str:
        """The row as it came, undecodable bytes replaced."""
        stop = self.starts[row + 1] if row + 1 < len(self.starts) else self.end
        return block[self.starts[row] : stop].rstrip(b"\r\n").decode("utf-8", "replace")

    def accepted(self, block: bytes) -> tuple[bytes, Integers]:
        """The bytes of the rows that are not refused, and these rows' numbers."""
        kept = np.ones(len(self.starts), bool)
        kept[list(self.reasons)] = False
        bounds = np.append(self.starts, self.end)
        switches = np.flatnonzero(np.diff(kept, prepend=False, append=False))  # a run of accepted rows starts or ends
        runs = bounds[switches].reshape(-1, 2).tolist()
        return b"".join(block[start:stop] for start, stop in runs), np.flatnonzero(kept)


class RowEnds:
    """Finds row ends of one dialect.

    Args:
      separator: one character.
      num_columns: of the header.
    """

    def __init__(self, separator: str, num_columns: int) -> None:
        """Compiles the grammar of rows."""
        apart = re.escape(separator.encode())
        quoted = rb'"(?:[^"]++|"")*+"'
        # As Arrow reads a line: a quote opens a value only at its start, and text may follow the closing one.
        lenient = rb'(?:%b[^%b]*+|[^"%b][^%b]*+|)' % (quoted, apart, apart, apart)
        strict = rb'(?:%b|[^"%b\r\n]*+)' % (quoted, apart)
        self._closed_line = re.compile(rb"%b(?:%b%b)*+" % (lenient, apart, lenient))
        self._spanning_row = re.compile(rb"%b(?:%b%b){%d}(?=[\r\n]|\Z)" % (strict, apart, strict, num_columns - 1))
        self._edges = np.zeros(256, bool)
        self._edges[[ord(separator), _LF, _CR, _QUOTE]] = True

    def orderly_end(self, block: bytes, final: bool) -> int | None:
        """Where the last whole row ends, if every quote is in order; None if `divide` must look at each.

        Args:
          block: starts where a row starts.
          final: no more bytes follow.
        """
        if b'"' not in block:
            return len(block) if final else max(block.rfind(b"\n"), block.rfind(b"\r")) + 1
        codes = np.frombuffer(block, np.uint8)
        quotes = np.flatnonzero(codes == _QUOTE)
        if not self._in_order(codes, quotes) or (final and len(quotes) % 2):
            return None
        line_ends = _line_ends(codes)
        inside = (np.searchsorted(quotes, line_ends) % 2).astype(bool)
        row_ends = line_ends[~inside] + 1
        if inside.any() and np.diff(row_ends, prepend=0, append=len(block)).max() >= MAX_SPAN_BYTES:
            return None
        return len(block) if final else int(row_ends[-1]) if len(row_ends) else 0

    def _in_order(self, codes: npt.NDArray[np.uint8], quotes: Integers) -> bool:
        """Whether quotes alternately open and close values; a doubled one closes and opens again."""
        return bool(self._may_open(codes, quotes[0::2]).all() and self._may_close(codes, quotes[1::2]).all())

    def _may_open(self, codes: npt.NDArray[np.uint8], quotes: Integers) -> Mask:
        """Whether each quote stands where a value starts, or directly behind another."""
        return self._edges[codes[quotes - 1]] | (quotes == 0)

    def _may_close(self, codes: npt.NDArray[np.uint8], quotes: Integers) -> Mask:
        """Whether each quote stands where a value ends, or directly before another."""
        return self._edges[codes[np.minimum(quotes + 1, len(codes) - 1)]] | (quotes == len(codes) - 1)

    def divide(self, block: bytes, final: bool) -> Division:
        """Divides a block whose quotes or encoding may be out of order; arguments as of `orderly_end`."""
        codes = np.frombuffer(block, np.uint8)
        starts, stops = _lines(codes)
        end = len(block)
        if not final and len(starts) and stops[-1] == len(block):
            end = int(starts[-1])
        continues = np.zeros(len(starts), bool)
        unclosed = np.zeros(len(starts), bool)
        row_end = 0
        for line in self._suspects(codes, starts):
            start, stop = int(starts[line]), int(stops[line])
            if start >= end:
                break
            if start < row_end or self._closed_line.fullmatch(block, start, stop):
                continue
            reaches = self._span_end(block, start, final)
            if reaches is None:
                end = start
            elif reaches == 0:
                unclosed[line] = True
            else:
                row_end = reaches
                continues[line + 1 : np.searchsorted(starts, row_end)] = True
        whole = starts < end
        return _division(block, end, starts[whole], continues[whole], unclosed[whole])

    def _suspects(self, codes: npt.NDArray[np.uint8], starts: Integers) -> list[int]:
        """The lines in which a quote is not in order, or has no partner."""
        quotes = np.flatnonzero(codes == _QUOTE)
        if not len(quotes):
            return []
        line = np.searchsorted(starts, quotes, "right") - 1
        first = np.flatnonzero(np.diff(line, prepend=-1))
        counts = np.diff(first, append=len(quotes))
        opens = (np.arange(len(quotes)) - np.repeat(first, counts)) % 2 == 0
        in_order = np.where(opens, self._may_open(codes, quotes), self._may_close(codes, quotes))
        return line[first][(counts % 2 == 1) | ~np.logical_and.reduceat(in_order, first)].tolist()

    def _span_end(self, block: bytes, start: int, final: bool) -> int | None:
        """Where a row that goes beyond its line ends; 0 if its quote is a stray one, None if more bytes must tell."""
        limit = start + MAX_SPAN_BYTES
        row = self._spanning_row.match(block, start, limit)
        if row and row.end() < limit and (row.end() < len(block) or final):
            return row.end()
        return 0 if final or limit <= len(block) else None


def _line_ends(codes: npt.NDArray[np.uint8]) -> Integers:
    return np.flatnonzero((codes == _LF) | (codes == _CR))


def _lines(codes: npt.NDArray[np.uint8]) -> tuple[Integers, Integers]:
    """Where each line starts and stops; an empty one is no row."""
    ends = _line_ends(codes)
    starts, stops = np.concatenate([[0], ends + 1]), np.append(ends, len(codes))
    return starts[stops > starts], stops[stops > starts]


def _division(block: bytes, end: int, starts: Integers, continues: Mask, unclosed: Mask) -> Division:
    division = Division(end, starts[~continues], {})
    reasons = dict.fromkeys(np.flatnonzero(unclosed[~continues]).tolist(), UNCLOSED_QUOTE)
    return Division(end, division.starts, _undecodable(block, division) | reasons)


def _undecodable(block: bytes, division: Division) -> dict[int, str]:
    if is_utf8(block[: division.end]):
        return {}
    beyond_ascii = np.flatnonzero(np.frombuffer(block, np.uint8, division.end) >= 0x80)
    suspects = np.unique(np.searchsorted(division.starts, beyond_ascii, "right") - 1).tolist()
    bounds = np.append(division.starts, division.end).tolist()
    return {row: INVALID_UTF8 for row in suspects if not _decodes(block[bounds[row] : bounds[row + 1]])}


def _decodes(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
