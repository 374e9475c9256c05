"""Divides interactions into train, validation and test."""

from functools import partial

import apache_beam as beam
import numpy as np
import pyarrow as pa

from data_prep.beam.filters import events_of
from data_prep.beam.rank import ExactSelect
from data_prep.beam.stages import Stages, StoredTables
from data_prep.beam.tables import ShuffleByHash
from data_prep.beam.totals import LEAST, Facts
from data_prep.config import DataConfig
from data_prep.split import TEST, assigned, cut_ranks, num_weighed, temporal_cuts, times_of_rows
from recsys.schema import SPLITS

Cuts = tuple[int, int]


def find_cuts(stages: Stages, rows: StoredTables, config: DataConfig, num_partitions: int) -> Cuts | None:
    """Where validation and test begin; None unless the split is temporal.

    Raises:
      ConfigError: test would begin before validation.
    """
    if config.split.rule != "temporal":
        return None
    if config.split.test_start is not None:
        return temporal_cuts(np.empty(0, np.int64), config.split)
    with stages.stage("cuts") as stage:
        times = stage.read(rows, ["timestamp"]) | "Times" >> beam.Map(_times)
        stage.store_value("cuts", times | ExactSelect(partial(cut_ranks, config=config.split), num_partitions))
    validation_start, test_start = stages.value("cuts", "cuts")
    return validation_start, test_start


class Split(beam.PTransform):
    """Replaces `in_test` by `split`, and where there are no timestamps makes some."""

    def __init__(self, config: DataConfig, cuts: Cuts | None, num_partitions: int) -> None:
        """Takes the rule, and where a temporal split is cut."""
        super().__init__()
        self._config, self._cuts, self._num_partitions = config, cuts, num_partitions

    def expand(self, tables: beam.PCollection) -> beam.PCollection:
        """Only leave-one-out has to look at a user's other rows."""
        if self._config.split.rule == "leave_one_out":
            tables |= ShuffleByHash(["user"], self._num_partitions)
        return tables | beam.Map(_split, self._config, self._cuts)


def split_schema(schema: pa.Schema) -> pa.Schema:
    """The columns of divided interactions."""
    return schema.remove(schema.get_field_index("in_test")).append(pa.field("split", pa.int8()))


def split_facts(table: pa.Table) -> Facts:
    """The number of rows by split, the first timestamp, the last one negated, the first of test, and what weighs."""
    time, split = table["timestamp"].to_numpy(), table["split"].to_numpy()
    facts = {f"rows {number}": int(count) for number, count in enumerate(np.bincount(split, minlength=len(SPLITS)))}
    if "weight" in table.column_names:
        facts["weighed"] = num_weighed(split, table["weight"].to_numpy())
    if len(time):
        facts |= {LEAST + "first": int(time.min()), LEAST + "minus_last": -int(time.max())}
    if (split == TEST).any():
        facts[LEAST + "test"] = int(time[split == TEST].min())
    return facts


def _times(table: pa.Table) -> np.ndarray:
    return table["timestamp"].to_numpy()


def _split(table: pa.Table, config: DataConfig, cuts: Cuts | None) -> pa.Table:
    table = table.sort_by("position")
    by_position = not config.interactions.timestamp
    split = assigned(events_of(table), config.split, config.seed, by_position, cuts)
    if by_position:
        times = pa.array(times_of_rows(table["position"].to_numpy(), split))
        table = table.set_column(table.column_names.index("timestamp"), "timestamp", times)
    return table.drop_columns(["in_test"]).append_column("split", pa.array(split, pa.int8()))
