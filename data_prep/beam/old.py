"""The vocabularies of a dataset that is extended, where workers see them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems

from data_prep.beam.stages import Stages, StoredTables
from data_prep.beam.vocabularies import FEATURE, OLD, OLD_SCHEMA, VALUE, Coded
from data_prep.extend import OldDataset

_BATCH_ROWS = 1 << 16


def store_old(stages: Stages, old: OldDataset, features: Sequence[Coded]) -> StoredTables:
    """Copies the old values and their places, batch by batch."""
    stored = StoredTables(stages.path("old_vocabularies"), OLD_SCHEMA)
    vocabularies = old.dataset.manifest.vocabularies
    with FileSystems.create(f"{stored.prefix}.parquet") as sink, pq.ParquetWriter(sink, OLD_SCHEMA) as writer:
        for feature in features:
            if feature.name not in vocabularies:
                continue
            first = 0
            with pq.ParquetFile(old.dataset.path / vocabularies[feature.name].name) as file:
                for batch in file.iter_batches(_BATCH_ROWS, columns=["value"]):
                    columns = {
                        FEATURE: pa.repeat(pa.scalar(feature.number, pa.int32()), len(batch)),
                        VALUE: batch["value"],
                        OLD: np.arange(first, first + len(batch)),
                    }
                    writer.write_table(pa.table(columns))
                    first += len(batch)
    return stored
