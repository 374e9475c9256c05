import logging
import re
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.beam.k_core import Minimum, k_core
from data_prep.beam.rank import ExactSelect, GlobalRank
from data_prep.beam.stages import Stages, StoredTables, open_stages
from data_prep.beam.sums import ExactSum
from recsys.errors import ConfigError


def median(num_elements: int) -> list[int]:
    return [num_elements // 2]


def values_of(table: pa.Table) -> np.ndarray:
    return table["value"].to_numpy()  # type: ignore[no-any-return]


def everything(stages: Stages) -> dict[str, Any]:
    """What the transforms make of 1,000 rows."""
    rng = np.random.default_rng(0)
    columns = {"user": rng.integers(0, 200, 1000), "item": rng.integers(0, 200, 1000), "value": rng.normal(size=1000)}
    table = pa.table({**columns, "row": np.arange(1000)})
    with stages.stage("first") as stage:
        rows = stage.pipeline | beam.Create([table.slice(n, 50) for n in range(0, 1000, 50)])
        stage.store_value("sum", rows | "Values" >> beam.Map(values_of) | beam.CombineGlobally(ExactSum()))
        stage.store_value("median", rows | "Values again" >> beam.Map(values_of) | ExactSelect(median, 3))
        ranked = rows | GlobalRank([("value", "descending"), ("row", "ascending")], 3)
        stored = stage.store("rows", ranked, table.schema.append(pa.field("rank", pa.int64())))
    core, _ = k_core(stages, stored, [Minimum("user", 4), Minimum("item", 3)], num_partitions=4)
    return {
        "sum": stages.value("first", "sum"),
        "median": stages.value("first", "median"),
        "rows": rows_of(stored),
        "core": rows_of(core),
    }


def rows_of(stored: StoredTables) -> list[dict[str, object]]:
    prefix = Path(stored.prefix)
    return pq.read_table(sorted(prefix.parent.glob(f"{prefix.name}*"))).sort_by("row").to_pylist()  # type: ignore


@pytest.mark.slow
def test_two_processes_give_what_one_gives(
    stages: Stages, two_processes: Stages, capfd: pytest.CaptureFixture[str]
) -> None:
    result = everything(two_processes)
    assert result == everything(stages)
    assert 0 < len(result["core"]) < 1000
    assert capfd.readouterr() == ("", "")


def test_the_working_folder_is_removed(tmp_path: Path) -> None:
    with open_stages([f"--temp_location={tmp_path}"]) as stages:
        with stages.stage("only") as stage:
            stage.store_value("one", stage.pipeline | beam.Create([1]))
        assert list(tmp_path.iterdir()) != []
    assert list(tmp_path.iterdir()) == []


def test_a_table_without_rows_is_stored(stages: Stages) -> None:
    schema = pa.schema([("row", pa.int64())])
    with stages.stage("first") as stage:
        stored = stage.store("rows", stage.pipeline | beam.Create([schema.empty_table()]), schema)
    with stages.stage("second") as stage:
        numbers = stage.read(stored) | beam.Map(len) | beam.CombineGlobally(sum)
        stage.store_value("count", numbers)
    assert stages.value("second", "count") == 0


def test_a_stage_name_is_used_once(stages: Stages) -> None:
    with stages.stage("one") as stage:
        stage.store_value("one", stage.pipeline | beam.Create([1]))
    with pytest.raises(ValueError, match=r"^there is a stage one already: expected another name$"), stages.stage("one"):
        pass


def test_a_level_that_somebody_chose_stays(stages: Stages) -> None:
    logger = logging.getLogger("apache_beam")
    logger.setLevel(logging.WARNING)
    try:
        with stages.stage("one") as stage:
            stage.store_value("one", stage.pipeline | beam.Create([1]))
            assert logger.level == logging.WARNING
    finally:
        logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--direct_num_worker=2"], "Beam has no option --direct_num_worker: correct or remove it"),
        (
            ["--direct_num_workers=many"],
            "Beam cannot read its options --direct_num_workers=many: the line above says why",
        ),
        (
            ["--runner=FlinkRunner"],
            "--runner FlinkRunner needs --temp_location, a folder that all its workers see, such as gs://bucket/folder",
        ),
    ],
)
def test_wrong_options_are_explained(options: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"), open_stages(options):
        pass
