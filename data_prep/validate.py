"""Separates rows that can be used from rows that cannot; nothing is dropped silently."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.columns import Mask, as_numbers, as_text, one_array
from data_prep.config import FeatureConfig, InteractionsConfig
from data_prep.moments import Format, to_seconds, unreadable_moments
from data_prep.sources import RawBatch
from recsys.errors import SourceError

_QUARANTINE_COLUMNS = ("position", "reason", "text")
_BREAKS = "[\r\n\0]"
Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ValidBatch:
    """The usable rows of a batch.

    Attributes:
      user, item: [num_rows] strings.
      timestamp: [num_rows] int64; the position where the source has no time.
      position: [num_rows] int64, where each row stands in its source.
      label, weight: [num_rows] float32, where the source has them.
      table: all asked columns of the same rows, as they came.
      quarantine: the refused rows: `position`, `reason`, `text` (of a row without columns) and the columns as text,
        one that is called like one of these three with `source_` before its name.
    """

    user: pa.StringArray
    item: pa.StringArray
    timestamp: Int64s
    position: Int64s
    label: Float32s | None
    weight: Float32s | None
    table: pa.Table
    quarantine: pa.Table


@dataclass(frozen=True)
class EntityBatch:
    """The usable rows of a batch of users or items.

    Attributes:
      ids: [num_rows] strings.
      position: [num_rows] int64, where each row stands in its source.
      table: all asked columns of the same rows, as they came.
      quarantine: the refused rows, as in `ValidBatch`.
    """

    ids: pa.StringArray
    position: Int64s
    table: pa.Table
    quarantine: pa.Table


class _Refusals:
    """The first reason found against each row."""

    def __init__(self, num_rows: int) -> None:
        self._codes = np.zeros(num_rows, dtype=np.uint8)
        self._reasons = [""]

    def add(self, bad: Mask, reason: str) -> None:
        if bad.any():
            self._codes[(self._codes == 0) & bad] = len(self._reasons)
            self._reasons.append(reason)

    @property
    def good(self) -> Mask:
        return self._codes == 0

    def reasons(self) -> list[str]:
        return [self._reasons[code] for code in self._codes[self._codes > 0]]


def validate_interactions(
    batch: RawBatch, columns: InteractionsConfig, format_: Format, features: Sequence[FeatureConfig] = ()
) -> ValidBatch:
    """Checks every row's ids, timestamp, label and weight, and the numbers and moments among the features."""
    refusals = _Refusals(batch.table.num_rows)
    user = _checked_ids(batch.table, columns.user_id, "user_id", refusals)
    item = _checked_ids(batch.table, columns.item_id, "item_id", refusals)
    timestamp = batch.positions
    if columns.timestamp:
        column = one_array(batch.table[columns.timestamp])
        timestamp, unreadable, beyond = to_seconds(column, columns.timestamp, format_)
        refusals.add(unreadable, "unreadable timestamp")
        refusals.add(beyond, "timestamp out of range")
    label = _checked_numbers(batch.table, columns.label, "label", refusals)
    weight = _checked_numbers(batch.table, columns.weight, "weight", refusals)
    if weight is not None:
        refusals.add(weight < 0, "negative weight")
    _check_features(batch.table, features, refusals)
    good = refusals.good
    whole = bool(good.all())
    chosen = slice(None) if whole else good
    return ValidBatch(
        user=user if whole else user.filter(pa.array(good)),
        item=item if whole else item.filter(pa.array(good)),
        timestamp=timestamp[chosen],
        position=batch.positions[chosen],
        label=None if label is None else label[chosen],
        weight=None if weight is None else weight[chosen],
        table=batch.table if whole else batch.table.filter(pa.array(good)),
        quarantine=_quarantined(batch, refusals),
    )


def validate_entities(batch: RawBatch, id_column: str, features: Sequence[FeatureConfig]) -> EntityBatch:
    """Checks every row's id, and the numbers and moments among the features; an id may come several times."""
    refusals = _Refusals(batch.table.num_rows)
    ids = _checked_ids(batch.table, id_column, id_column, refusals)
    _check_features(batch.table, features, refusals)
    good = refusals.good
    chosen = pa.array(good)
    return EntityBatch(
        ids.filter(chosen), batch.positions[good], batch.table.filter(chosen), _quarantined(batch, refusals)
    )


def refuse_repeated(batch: EntityBatch, is_first: Mask, id_column: str) -> EntityBatch:
    """Leaves the rows of [num_rows] bool `is_first`; the ids of the others came before."""
    if is_first.all():
        return batch
    first, others = pa.array(is_first), batch.table.filter(pa.array(~is_first))
    refused = _refused_rows(others, batch.position[~is_first], [f"repeated {id_column}"] * others.num_rows)
    return EntityBatch(
        batch.ids.filter(first),
        batch.position[is_first],
        batch.table.filter(first),
        pa.concat_tables([batch.quarantine, refused]).sort_by("position"),
    )


@dataclass
class Quarantine:
    """Refused rows of one table as they gather.

    Attributes:
      table_name: `interactions`, `test`, `users` or `items`.
      num_rows: all rows that were read.
      counts: refused rows by reason.
    """

    table_name: str
    num_rows: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    _parts: list[pa.Table] = field(default_factory=list)

    def add(self, refused: pa.Table, num_good: int) -> None:
        """Takes the refused rows of a batch, and the number of the others."""
        self.num_rows += num_good + refused.num_rows
        if refused.num_rows:
            self.counts.update(refused["reason"].to_pylist())
            self._parts.append(refused)

    def table(self) -> pa.Table:
        """All refused rows."""
        return pa.concat_tables(self._parts)

    def require_few(self, max_bad_fraction: float) -> None:
        """Raises `SourceError` when more than `max_bad_fraction` of the rows are refused, or all of them."""
        bad = self.counts.total()
        if bad and (bad == self.num_rows or bad > max_bad_fraction * self.num_rows):
            by_count = sorted(self.counts.items(), key=lambda pair: (-pair[1], pair[0]))
            worst = ", ".join(f"{count} × {reason}" for reason, count in by_count)
            raise SourceError(
                f"{bad} of {self.num_rows} rows of the {self.table_name} are bad ({worst}): expected at most a "
                f"fraction of {max_bad_fraction}; mend the source or raise --max-bad-fraction"
            )


def first_positions(ids: pa.StringArray) -> Int64s:
    """Where each distinct id stands for the first time, ascending."""
    codes = ids.dictionary_encode().indices.to_numpy()
    return np.sort(np.unique(codes, return_index=True)[1])


def _checked_ids(table: pa.Table, column: str, name: str, refusals: _Refusals) -> pa.StringArray:
    text, invalid = as_text(one_array(table[column]), column)
    refusals.add(invalid, f"invalid UTF-8 in {name}")
    if text.null_count:
        refusals.add(text.is_null().to_numpy(zero_copy_only=False), f"missing {name}")
    refusals.add(
        pc.fill_null(pc.equal(pc.binary_length(text), 0), False).to_numpy(zero_copy_only=False), f"missing {name}"
    )
    # Exported vocabularies are text files with a value per line.
    if _holds_breaks(text):
        found = pc.fill_null(pc.match_substring_regex(text, _BREAKS), False).to_numpy(zero_copy_only=False)
        refusals.add(found, f"line break or NUL in {name}")
    return text


def _holds_breaks(text: pa.StringArray) -> bool:
    """Looks at the bytes of all values at once, which is much faster than at each value."""
    data = text.buffers()[2]
    found = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    return bool((found < 14).any())


def _check_features(table: pa.Table, features: Sequence[FeatureConfig], refusals: _Refusals) -> None:
    for feature in features:
        name = feature.source_column
        if feature.type == "numeric":
            refusals.add(as_numbers(one_array(table[name]), name)[1], f"unreadable {name}")
        elif feature.type == "timestamp":
            refusals.add(unreadable_moments(one_array(table[name]), name), f"unreadable {name}")


def _checked_numbers(table: pa.Table, column: str | None, name: str, refusals: _Refusals) -> Float32s | None:
    if column is None:
        return None
    numbers, unreadable = as_numbers(one_array(table[column]), column)
    refusals.add(unreadable, f"unreadable {name}")
    refusals.add(np.isnan(numbers), f"missing {name}")
    return numbers.astype(np.float32)


def _quarantined(batch: RawBatch, refusals: _Refusals) -> pa.Table:
    """The reader's refused rows and those of `refusals`, in the order of their positions."""
    good = refusals.good
    ours = _refused_rows(batch.table.filter(pa.array(~good)), batch.positions[~good], refusals.reasons())
    if not batch.refused.num_rows:
        return ours
    names = quarantine_names(batch.table.column_names).values()
    nothing = {name: pa.nulls(batch.refused.num_rows, pa.string()) for name in names}
    theirs = pa.table({name: batch.refused[name] for name in _QUARANTINE_COLUMNS} | nothing)
    return pa.concat_tables([ours, theirs]).sort_by("position")


def _refused_rows(rows: pa.Table, positions: Int64s, reasons: Sequence[str]) -> pa.Table:
    names = quarantine_names(rows.column_names)
    return pa.table(
        {
            "position": positions,
            "reason": pa.array(reasons, pa.string()),
            "text": pa.nulls(rows.num_rows, pa.string()),
            **{names[name]: printable(one_array(rows[name])) for name in rows.column_names},
        }
    )


def quarantine_names(columns: Sequence[str]) -> dict[str, str]:
    """What the source's columns are called in the quarantine, which has columns of its own."""
    taken = {*_QUARANTINE_COLUMNS, *columns}
    names = {name: name for name in columns}
    for name in sorted(set(columns) & set(_QUARANTINE_COLUMNS)):
        while names[name] in taken:
            names[name] = f"source_{names[name]}"
        taken.add(names[name])
    return names


def printable(column: pa.Array) -> pa.StringArray:
    """Any value as text, for a person to read."""
    if pa.types.is_temporal(column.type):  # Python's own dates end with the year 9999
        return column.cast(pa.string())
    shown = (
        value.decode(errors="replace") if isinstance(value, bytes) else value if value is None else str(value)
        for value in column.to_pylist()
    )
    return pa.array(list(shown), pa.string())
