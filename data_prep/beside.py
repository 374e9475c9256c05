"""Content of users and items that stands beside the interactions, and may change from row to row.

An id's content is that of one row, which is chosen after the split, so that nothing held out is learned.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.config import DataConfig
from data_prep.events import Events, Int64s
from data_prep.sources import Source, read_source
from data_prep.split import Splits
from data_prep.tables import RawEntities, Tables, columns_beside


def read_beside(tables: Tables, config: DataConfig, events: Events, split: Splits) -> dict[str, RawEntities]:
    """Reads the interactions once more, for the content of the kinds that are `config.beside` them.

    Memory grows with the ids, not with the rows. A table that tests has no content: nothing is known of the ids that
    only it has.
    """
    if not config.beside:
        return {}
    positions = _telling_positions(list(config.beside), events, split)
    chosen = np.unique(np.concatenate(list(positions.values())))
    found, table = _rows_at(chosen, tables.sources["interactions"], columns_beside(config))
    return {
        kind: RawEntities(getattr(events, f"{kind}_ids"), table.take(pc.index_in(pa.array(own), value_set=found)))
        for kind, own in positions.items()
    }


def _telling_positions(kinds: list[str], events: Events, split: Splits) -> dict[str, Int64s]:
    """By kind [num_ids] int64, where the row stands whose content is that of the id.

    It is the id's earliest of train, or where there is none its earliest of validation, or else of test.
    """
    order = np.lexsort((events.position, events.timestamp, split))
    position = events.position[order]
    return {kind: position[np.unique(getattr(events, kind)[order], return_index=True)[1]] for kind in kinds}


def _rows_at(positions: Int64s, source: Source, columns: list[str]) -> tuple[pa.Array, pa.Table]:
    """Those of the ascending positions that the source has, and their rows."""
    found, tables = [], []
    for batch in read_source(source, columns):
        chosen = _among(batch.positions, positions)
        found.append(batch.positions[chosen])
        tables.append(batch.table.filter(pa.array(chosen)))
    return pa.array(np.concatenate(found)), pa.concat_tables(tables)


def _among(values: Int64s, ascending: Int64s) -> npt.NDArray[np.bool_]:
    """[len(values)] bool: takes time for the values only, unlike a search that looks at all of `ascending` first."""
    place = np.searchsorted(ascending, values)
    return ascending[np.minimum(place, len(ascending) - 1)] == values
