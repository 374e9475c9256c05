"""`recsys bench vocabulary_growth`: how much slower a step of `model.fit` is with a thousand times longer tables.

The same batches of the same model, drawn over all rows of a short and of a long table of users and of items, with each
optimizer. The ratio is the long tables' time over the short ones': 1 is the best that can be.
"""

import gc

import numpy as np
import tensorflow as tf

from experiments.benchmarks.harness import Pairs, Report, Way, pairs_table, time_pairs
from recsys.config import ModelConfig, OptimizerConfig
from recsys.input_pipeline import ending_at_once
from recsys.loss_config import InBatchLossConfig
from recsys.optimizers import make_optimizer
from recsys.retrieval import RetrievalModel
from recsys.schema import ITEM_ID, USER_ID, Feature, Schema
from recsys.towers import build_towers

_SHORT, _LONG = 10_000, 10_000_000
_BATCH_SIZE = 2048
_EMBEDDING_DIM = 32
_OPTIMIZERS = {name: OptimizerConfig.model_validate({name: {}}) for name in ("adagrad", "adam")}


def measure(rows: int = _LONG, num_steps: int = 20, repeats: int = 5) -> Report:
    """Times passes of `num_steps` steps; `rows` are those of each long table."""
    pairs: dict[str, Pairs] = {}
    for name, optimizer in _OPTIMIZERS.items():
        short, long = (_steps(size, num_steps, optimizer) for size in (_SHORT, rows))
        pairs |= time_pairs(short, {name: long}, repeats)
        del short, long
        tf.keras.backend.clear_session()
        gc.collect()  # two sets of long tables would not fit beside each other
    title = (
        f"our {_SHORT:,} rows per table against its {rows:,}, batches of {_BATCH_SIZE:,}, dim {_EMBEDDING_DIM}, "
        f"{repeats} pairs of {num_steps} steps"
    )
    cases = {name: pair.ratio for name, pair in pairs.items()}
    return Report(cases, [pairs_table(title, "examples", pairs)], higher_is_better=False)


def _steps(rows: int, num_steps: int, optimizer: OptimizerConfig) -> Way:
    ids = [Feature(name=name, type="id", num_ids=2 + rows, num_oov=1) for name in (USER_ID, ITEM_ID)]
    schema = Schema(user_features=(ids[0],), item_features=(ids[1],), history_length=0)
    towers = build_towers(schema, ModelConfig(embedding_dim=_EMBEDDING_DIM))
    model = RetrievalModel(towers, InBatchLossConfig(), np.ones(rows, np.int64))
    model.compile(optimizer=make_optimizer(optimizer, num_steps))
    batches = _batches(rows, num_steps)

    def run() -> int:
        model.fit(batches, verbose=0)
        return num_steps * _BATCH_SIZE

    return run


def _batches(rows: int, num_steps: int) -> tf.data.Dataset:
    rng = np.random.default_rng(0)
    item, user = rng.integers(rows, size=(2, num_steps * _BATCH_SIZE), dtype=np.int32)
    columns = {"item_row": item, ITEM_ID: 2 + item, USER_ID: 2 + user, "weight": np.ones(len(item), np.float32)}
    batches = tf.data.Dataset.from_tensor_slices(columns).batch(_BATCH_SIZE, drop_remainder=True).cache().prefetch(1)
    return ending_at_once(batches)
