"""Fixtures: pipelines in this process, and in two."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pytest

from data_prep.beam import require_beam

require_beam()

import apache_beam as beam  # noqa: E402

from data_prep.beam.stages import Stages, open_stages  # noqa: E402

Run = Callable[[Any, Sequence[Any]], Any]


@pytest.fixture
def stages() -> Iterator[Stages]:
    with open_stages([]) as opened:
        yield opened


@pytest.fixture
def two_processes() -> Iterator[Stages]:
    with open_stages(["--direct_running_mode=multi_processing", "--direct_num_workers=2"]) as opened:
        yield opened


@pytest.fixture
def value_of() -> Run:
    """A function that applies a transform to elements in this process, and returns the one element of the result."""

    def run(transform: Any, elements: Sequence[Any]) -> Any:
        with open_stages([]) as opened:
            with opened.stage("only") as stage:
                stage.store_value("result", stage.pipeline | beam.Create(elements, reshuffle=False) | transform)
            return opened.value("only", "result")

    return run


@pytest.fixture
def tables_of() -> Run:
    """A function that applies a transform to tables in this process, and returns the tables of the result."""

    def run(transform: Any, tables: Sequence[pa.Table]) -> list[pa.Table]:
        with open_stages([]) as opened:
            with opened.stage("only") as stage:
                result = stage.pipeline | beam.Create(tables, reshuffle=False) | transform
                stage.store_value("result", result | beam.Map(_as_lists) | beam.combiners.ToList())
            return [pa.table(table) for table in opened.value("only", "result")]

    return run


def _as_lists(table: pa.Table) -> dict[str, list[Any]]:
    return table.to_pydict()  # type: ignore[no-any-return]
