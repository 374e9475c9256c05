"""`recsys prepare --engine beam`: the dataset of `data_prep.pipeline.prepare`, on many workers.

Pipelines follow each other, and the driver looks at counts between them. No worker holds more than a partition, and
the driver streams what it writes; it holds one integer per item.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import numpy as np

from data_prep import features as f
from data_prep.beam.beside import ContentBeside, ReadColumns
from data_prep.beam.encode import EncodeEntities, EntityEncoder, count_present
from data_prep.beam.entities import ROW, RankEntities, entity_schema
from data_prep.beam.filters import RANK, Filtered, filter_rows, rows_as
from data_prep.beam.numbers import numeric_fits, store_fits, timestamp_readings
from data_prep.beam.old import store_old
from data_prep.beam.ordered import OrderedTables, store_ordered
from data_prep.beam.read import KINDS, entity_config, read_tables
from data_prep.beam.sequences import BuildSequences, ProfileUsers, Shape, WriteShards, profile_of
from data_prep.beam.split import Cuts, Split, find_cuts, split_facts, split_schema
from data_prep.beam.stages import Stage, Stages, StoredTables, open_stages
from data_prep.beam.totals import LEAST, Facts, store_facts
from data_prep.beam.vocabularies import (
    VOCABULARY_SCHEMA,
    Coded,
    FitVocabularies,
    TokenIds,
    coded_features,
    count_tokens,
    features_of,
    vocabulary_facts,
)
from data_prep.beam.write import write_entities, write_refused, write_shards, write_vocabularies
from data_prep.config import DataConfig
from data_prep.extend import OldDataset, open_old
from data_prep.filters import require_some
from data_prep.manifest import complete, count_refused
from data_prep.moments import Reading
from data_prep.shards import Layout
from data_prep.split import require_all_parts, require_train_weight, split_rule
from data_prep.statistics import UserProfile, describe, time_edges
from data_prep.tables import Tables, columns_beside, open_tables
from data_prep.time_units import with_dates_as_numbers
from recsys.artifacts import new_directory, refuse_existing
from recsys.schema import SPLITS, Feature, Manifest, NumericFit
from recsys.stages import stage as shown

PARTITION_ROWS = 1_000_000


@dataclass(frozen=True)
class _Ranked:
    """Split interactions, ranked entities, vocabularies and what was fitted."""

    interactions: StoredTables
    entities: dict[str, StoredTables]
    num_entities: dict[str, int]
    sizes: list[int]
    times: Facts
    vocabularies: StoredTables
    ordered_vocabularies: OrderedTables
    starts: tuple[int, ...]
    fits: dict[str, dict[str, NumericFit]]
    readings: dict[str, dict[str, Reading]]
    features: dict[str, list[Feature]]


@dataclass(frozen=True)
class _Encoded:
    """What is left to be written."""

    entities: dict[str, OrderedTables]
    coverage: dict[str, dict[str, float]]
    shard_prefix: str
    shards: list[list[int]]
    profile: UserProfile


def prepare_with_beam(
    spec: str,
    config: DataConfig,
    out: Path,
    tfds_manual_dir: Path | None = None,
    max_bad_fraction: float = 0.01,
    extend: Path | None = None,
    beam_options: Sequence[str] = (),
    partition_rows: int = PARTITION_ROWS,
) -> Manifest:
    """Turns raw interactions into the DATASET that `data_prep.pipeline.prepare` makes, byte for byte.

    Args:
      spec: the interactions' source, which all workers see.
      config: which column is what.
      out: the directory to make, on the machine that calls.
      tfds_manual_dir: a folder with the archives that TFDS would download.
      max_bad_fraction: the fraction of bad rows of a table above which nothing is written.
      extend: a dataset whose ids and fits are kept.
      beam_options: as on Beam's command line.
      partition_rows: about as many rows as a worker holds at a time.

    Raises:
      SourceError: the source cannot be used.
      ConfigError: the dataset to extend has other features, or Beam's options are wrong.
      OutputExistsError: `out` exists.
    """
    refuse_existing(out)
    with open_stages(beam_options) as stages:
        old = open_old(extend, config)
        tables = open_tables(spec, config, tfds_manual_dir)
        config = with_dates_as_numbers(config, tables.sources["interactions"])
        with shown("reading") as progress:
            read = read_tables(stages, tables, config)
            progress.advance(read.num_rows)
        num_partitions = -(-read.num_rows // partition_rows)
        with shown("filtering and splitting"):
            filtered = filter_rows(stages, read, tables, config, num_partitions)
            for quarantine in filtered.quarantines:
                quarantine.require_few(max_bad_fraction)
            require_some(filtered.num_rows, filtered.counts)
            cuts = find_cuts(stages, filtered.interactions, config, num_partitions)
        with shown("counting users and items"):
            ranked = _rank(stages, tables, filtered, config, cuts, old, read.temporal, num_partitions)
        with shown("encoding and building histories"):
            encoded = _encode(stages, ranked, config, num_partitions)
        with shown("writing"), new_directory(out) as folder:
            return _write(folder, config, tables, filtered, cuts, ranked, encoded, old)


def _rank(
    stages: Stages,
    tables: Tables,
    filtered: Filtered,
    config: DataConfig,
    cuts: Cuts | None,
    old: OldDataset | None,
    temporal: frozenset[str],
    num_partitions: int,
) -> _Ranked:
    """Splits, ranks users and items, and fits their features."""
    coded = coded_features(config)
    stored_old = None if old is None else store_old(stages, old, coded)
    entities: dict[str, StoredTables] = {}
    with stages.stage("rank") as stage:
        rows = stage.read(filtered.interactions) | "Split" >> Split(config, cuts, num_partitions)
        interactions = stage.store("interactions", rows, split_schema(filtered.interactions.schema))
        known = _known_content(stage, rows, tables, filtered, config, num_partitions)
        tokens, facts = [], [rows | "Sizes and times" >> beam.Map(split_facts)]
        for kind in KINDS:
            entity = entity_config(kind, config)
            found = rows | f"Rank {kind}s" >> RankEntities(kind, entity, config.seed, num_partitions, known.get(kind))
            entities[kind] = stage.store(f"{kind}s", found, entity_schema(entity))
            facts.append(found | f"Number of {kind}s" >> beam.Map(rows_as, kind))
            facts += store_fits(stage, kind, found, entity, num_partitions)
            tokens.append(found | f"Tokens of {kind}s" >> beam.Map(count_tokens, features_of(kind, coded)))
        counted = tokens | "All tokens" >> beam.Flatten()
        old_values = None if stored_old is None else stage.read(stored_old)
        values = counted | "Vocabularies" >> FitVocabularies(num_partitions, old_values)
        vocabularies = stage.store("vocabularies", values, VOCABULARY_SCHEMA)
        ordered = store_ordered(stage, "ordered_vocabularies", values, RANK)
        store_facts(stage, [*facts, values | "Numbers of values" >> beam.Map(vocabulary_facts)])
    found = stages.value("rank", "facts")
    sizes = [found[f"rows {split}"] for split in range(len(SPLITS))]
    require_all_parts(np.array(sizes), config.split)
    if "weighed" in found:
        require_train_weight(found["weighed"])
    num_entities = {kind: found[kind] for kind in KINDS}
    num_values = [found.get(f"values {feature.number}", 0) for feature in coded]
    fits = {kind: _fits(stages, kind, config, old) for kind in KINDS}
    features = {kind: _features(kind, config, coded, num_values, fits[kind]) for kind in KINDS}
    if old is not None:
        for kind in KINDS:
            old.require_same(features[kind])
    return _Ranked(
        interactions,
        entities,
        num_entities,
        sizes,
        {name: found[LEAST + name] for name in ("first", "minus_last", "test")},
        vocabularies,
        ordered,
        tuple(np.cumsum([0, *num_values[:-1]]).tolist()),
        fits,
        {kind: timestamp_readings(found, entity_config(kind, config), temporal) for kind in KINDS},
        features,
    )


def _known_content(
    stage: Stage, rows: beam.PCollection, tables: Tables, filtered: Filtered, config: DataConfig, num_partitions: int
) -> dict[str, beam.PCollection]:
    """By kind the content of ids, from tables of their own and from beside the split interactions."""
    known = {kind: stage.read(stored) for kind, stored in filtered.entities.items()}
    if config.beside:
        columns = ReadColumns(tables.sources["interactions"], columns_beside(config))
        read = stage.pipeline | "Columns beside" >> columns
        for kind, entity in config.beside.items():
            content = ContentBeside(kind, entity, num_partitions)
            known[kind] = (rows, read) | f"Content of {kind}s" >> content
    return known


def _fits(stages: Stages, kind: str, config: DataConfig, old: OldDataset | None) -> dict[str, NumericFit]:
    """Those of the old dataset go before those of the rows."""
    fits = numeric_fits(stages, "rank", kind, entity_config(kind, config))
    if old is None:
        return fits
    kept = {name: old.numeric_fit(name) for name in fits}
    return fits | {name: fit for name, fit in kept.items() if fit is not None}


def _features(
    kind: str, config: DataConfig, coded: Sequence[Coded], num_values: Sequence[int], fits: dict[str, NumericFit]
) -> list[Feature]:
    entity = entity_config(kind, config)
    values = {feature.name: num_values[feature.number] for feature in coded}
    name = f"{kind}_id"
    features = [Feature(name=name, type="id", num_ids=1 + entity.num_oov + values[name], num_oov=entity.num_oov)]
    for feature in entity.features:
        num_boundaries = len(fits[feature.name].boundaries) if feature.name in fits else 0
        features.append(f.describe(feature, values.get(feature.name, 0), num_boundaries))
    return features


def _encode(stages: Stages, ranked: _Ranked, config: DataConfig, num_partitions: int) -> _Encoded:
    """Encodes users and items, and writes shards of interactions."""
    coded = tuple(coded_features(config))
    edges = time_edges(ranked.times["first"], -ranked.times["minus_last"])
    ordered: dict[str, OrderedTables] = {}
    facts: list[beam.PCollection] = []
    with stages.stage("encode") as stage:
        vocabularies = stage.read(ranked.vocabularies)
        entities = {kind: stage.read(ranked.entities[kind]) for kind in KINDS}
        for kind in KINDS:
            entity = entity_config(kind, config)
            own = tuple(features_of(kind, coded))
            encoder = EntityEncoder(kind, entity, own, ranked.fits[kind], ranked.readings[kind])
            encode = EncodeEntities(encoder, TokenIds(coded, ranked.starts), ranked.num_entities[kind], num_partitions)
            encoded = (entities[kind], vocabularies) | f"Encode {kind}s" >> encode
            ordered[kind] = store_ordered(stage, f"{kind}s", encoded, ROW)
            names = [feature.name for feature in entity.features]
            facts.append(encoded | f"Present of {kind}s" >> beam.Map(count_present, names))
        store_facts(stage, facts)
        shape = Shape(ranked.num_entities["user"], config.history_length, num_partitions)
        rows = stage.read(ranked.interactions)
        sequences = (rows, entities["user"], entities["item"]) | BuildSequences(shape)
        prefix = stage.path("shard")
        shards = sequences | WriteShards([Layout.of(size) for size in ranked.sizes], prefix)
        stage.store_value("shards", shards | "All shards" >> beam.combiners.ToList())
        profile = sequences | ProfileUsers(edges, config.history_length, ranked.times["test"])
        stage.store_value("profile", profile)
    present = stages.value("encode", "facts")
    return _Encoded(
        ordered,
        {
            kind: {
                feature.name: present[f"present {feature.name}"] / ranked.num_entities[kind]
                for feature in entity_config(kind, config).features
            }
            for kind in KINDS
        },
        prefix,
        stages.value("encode", "shards"),
        profile_of(stages.value("encode", "profile")),
    )


def _write(
    folder: Path,
    config: DataConfig,
    tables: Tables,
    filtered: Filtered,
    cuts: Cuts | None,
    ranked: _Ranked,
    encoded: _Encoded,
    old: OldDataset | None,
) -> Manifest:
    """Writes all files of a dataset."""
    timed = bool(config.interactions.timestamp)
    splits = write_shards(folder, encoded.shard_prefix, encoded.shards)
    written = {kind: write_entities(folder, kind, encoded.entities[kind], filtered.listed.get(kind)) for kind in KINDS}
    vocabularies = write_vocabularies(folder, ranked.ordered_vocabularies, coded_features(config), ranked.starts)
    write_refused(folder, filtered.refused)
    files = {
        "splits": splits,
        "items": written["item"][0],
        "users": written["user"][0],
        "vocabularies": vocabularies,
    }
    return complete(
        folder,
        config,
        tables,
        features=ranked.features,
        files=files,
        rule=split_rule(config.split, config.seed, cuts, by_position=not timed),
        numeric_fits=ranked.fits["user"] | ranked.fits["item"],
        quarantine=count_refused(filtered.quarantines),
        filtered=filtered.counts,
        statistics=describe(
            encoded.profile,
            time_edges(ranked.times["first"], -ranked.times["minus_last"]),
            config.history_length,
            written["user"][1],
            written["item"][1],
            encoded.coverage,
            timed=timed,
        ),
        old=old,
    )
