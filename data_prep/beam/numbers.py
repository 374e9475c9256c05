"""Fits of numbers, and how timestamps are read."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from data_prep.beam.rank import ExactSelect
from data_prep.beam.stages import Stage, Stages
from data_prep.beam.sums import ExactSum
from data_prep.beam.totals import Facts, add_facts
from data_prep.config import EntityConfig, FeatureConfig
from data_prep.features import bucket_fit, present_numbers, quantile_ranks, standard_fit
from data_prep.moments import Reading, count_moments
from recsys.schema import NumericFit


def store_fits(
    stage: Stage, kind: str, entities: beam.PCollection, config: EntityConfig, num_partitions: int
) -> list[beam.PCollection]:
    """Stores what `numeric_fits` reads; returns PCollections of facts that it and `timestamp_readings` need."""
    facts = []
    standardized = [f.name for f in config.features if f.type == "numeric" and f.quantiles is None]
    if standardized:
        numbers = entities | f"Numbers of {kind}s" >> beam.FlatMap(_named_numbers, standardized)
        facts.append(numbers | f"Present of {kind}s" >> beam.MapTuple(_num_present))
        sums = _sums(f"Sum of {kind}s", numbers)
        total = facts[0] | f"Add present of {kind}s" >> beam.CombineGlobally(add_facts)
        squares = numbers | f"Squares of {kind}s" >> beam.Map(
            _deviations, beam.pvalue.AsSingleton(sums), beam.pvalue.AsSingleton(total)
        )
        stage.store_value(f"sums_{kind}", sums)
        stage.store_value(f"squares_{kind}", _sums(f"Sum of squares of {kind}s", squares))
    for feature in config.features:
        if feature.quantiles is not None:
            values = entities | f"Values of {feature.name}" >> beam.Map(_numbers, feature.name)
            ranks = partial(quantile_ranks, quantiles=feature.quantiles)
            chosen = values | f"Select {feature.name}" >> ExactSelect(ranks, num_partitions)
            stage.store_value(f"quantiles_{feature.name}", chosen)
    timestamps = [feature.name for feature in config.features if feature.type == "timestamp"]
    if timestamps:
        facts.append(entities | f"Moments of {kind}s" >> beam.Map(_count_moments, timestamps))
    return facts


def numeric_fits(stages: Stages, stage: str, kind: str, config: EntityConfig) -> dict[str, NumericFit]:
    """What a stage has learned of numbers."""
    return {f.name: _fit(stages, stage, kind, f) for f in config.features if f.type == "numeric"}


def timestamp_readings(facts: Facts, config: EntityConfig, temporal: frozenset[str]) -> dict[str, Reading]:
    """How the text of each timestamp feature is read: as the whole column tells; what were moments, are seconds."""
    names = [feature.name for feature in config.features if feature.type == "timestamp"]
    return {name: Reading() if name in temporal else Reading.by(_counts(facts, name)) for name in names}


def _counts(facts: Facts, name: str) -> Facts:
    prefix = _moments(name, "")
    return {fact.removeprefix(prefix): number for fact, number in facts.items() if fact.startswith(prefix)}


def _moments(name: str, count: str) -> str:
    return f"moments	{name}	{count}"


def _fit(stages: Stages, stage: str, kind: str, feature: FeatureConfig) -> NumericFit:
    if feature.quantiles is not None:
        values = stages.value(stage, f"quantiles_{feature.name}")
        return bucket_fit(values, feature.quantiles)
    count = stages.value(stage, "facts").get(f"numbers {feature.name}", 0)
    if not count:
        return NumericFit()
    sums, squares = (stages.value(stage, f"{name}_{kind}")[feature.name] for name in ("sums", "squares"))
    return standard_fit(sums / count, squares / count)


def _sums(name: str, numbers: beam.PCollection) -> beam.PCollection:
    return numbers | name >> beam.CombinePerKey(ExactSum()) | f"{name} together" >> beam.combiners.ToDict()


def _numbers(entities: pa.Table, name: str) -> np.ndarray:
    return present_numbers(entities[name].to_numpy()[entities["__train"].to_numpy() > 0])


def _named_numbers(entities: pa.Table, names: list[str]) -> Iterator[tuple[str, Any]]:
    for name in names:
        yield name, _numbers(entities, name)


def _num_present(name: str, numbers: np.ndarray) -> Facts:
    return {f"numbers {name}": len(numbers)}


def _deviations(named: tuple[str, Any], sums: dict[str, float], facts: Facts) -> tuple[str, Any]:
    name, numbers = named
    return name, (numbers - sums[name] / facts[f"numbers {name}"]) ** 2 if len(numbers) else numbers


def _count_moments(entities: pa.Table, names: list[str]) -> Facts:
    return {
        _moments(name, count): number
        for name in names
        for count, number in count_moments(entities[name].combine_chunks(), name).items()
    }
