"""`recsys bench train_step`: `model.fit` with our in-batch softmax against stock `tfrs.tasks.Retrieval`.

Both learn the same towers of ids from the same batches with the same optimizer, log-Q correction and removal of
accidental hits; before anything is timed, their losses of one batch with one set of weights are compared.
"""

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_recommenders as tfrs

from experiments.benchmarks.harness import Pairs, Report, Way, pairs_table, time_pairs
from recsys.config import ModelConfig, OptimizerConfig
from recsys.input_pipeline import ending_at_once
from recsys.loss_config import InBatchLossConfig
from recsys.optimizers import make_optimizer
from recsys.retrieval import RetrievalModel
from recsys.schema import ITEM_ID, USER_ID, Feature, Schema
from recsys.towers import Towers, build_towers

BATCH_SIZES = (2048, 8192)
LOSS_TOLERANCE = 1e-5
_ROWS_PER_RUN = 65_536
_USERS, _ITEMS = 50_000, 20_000
_MODEL = ModelConfig.model_validate(
    {"embedding_dim": 64, "query": {"id_dropout": 0}, "candidate": {"id_dropout": 0}, "normalize": True}
)
_LOSS = InBatchLossConfig()

Batch = dict[str, tf.Tensor]


def measure(batch_sizes: tuple[int, ...] = BATCH_SIZES, rows_per_run: int = _ROWS_PER_RUN, repeats: int = 5) -> Report:
    """Times passes over `rows_per_run` random interactions."""
    pairs: dict[str, Pairs] = {}
    for batch_size in batch_sizes:
        case = f"batch_{batch_size}"
        pairs |= {case: _pairs(batch_size, rows_per_run // batch_size, repeats)}
    title = f"ids only, dim {_MODEL.embedding_dim}, {_USERS:,} users, {_ITEMS:,} items, Adagrad, {repeats} pairs"
    return Report({case: pair.ratio for case, pair in pairs.items()}, [pairs_table(title, "examples", pairs)])


def _pairs(batch_size: int, num_steps: int, repeats: int) -> Pairs:
    counts = train_counts()
    batches = random_batches(counts, batch_size, num_steps)
    ours, stock = our_model(counts), StockModel(id_towers(), counts)
    require_equal_losses(ours, stock, next(iter(batches)))
    ways = [_fit(model, batches, batch_size, num_steps) for model in (ours, stock)]
    return time_pairs(ways[0], {"stock": ways[1]}, repeats)["stock"]


class StockModel(tfrs.Model):
    """The tutorial's two-tower model, with all options of its task that ours has too."""

    def __init__(self, towers: Towers, counts: npt.NDArray[np.int64]) -> None:
        """Takes the towers and each item's share of the batches."""
        super().__init__()
        self.query_tower, self.candidate_tower = towers.query, towers.candidate
        self.task = tfrs.tasks.Retrieval(temperature=_LOSS.temperature, remove_accidental_hits=True)
        self._probability = tf.constant(counts / counts.sum(), tf.float32)

    def compute_loss(self, inputs: Batch, training: bool = False) -> tf.Tensor:
        """Returns the batch's mean loss, so that both models take the same steps: the task's own is a sum."""
        total = self.task(
            self.query_tower({USER_ID: inputs[USER_ID]}, training=training),
            self.candidate_tower({ITEM_ID: inputs[ITEM_ID]}, training=training),
            candidate_sampling_probability=tf.gather(self._probability, inputs["item_row"]),
            candidate_ids=inputs["item_row"],
            compute_metrics=False,
        )
        return total / tf.cast(tf.shape(inputs["item_row"])[0], tf.float32)


def our_model(counts: npt.NDArray[np.int64]) -> RetrievalModel:
    """Returns our model; the counts are each item's train interactions, [num_items]."""
    return RetrievalModel(id_towers(), _LOSS, counts)


def id_towers() -> Towers:
    """The same weights at each call."""
    tf.keras.utils.set_random_seed(0)
    features = (
        (Feature(name=USER_ID, type="id", num_ids=2 + _USERS, num_oov=1),),
        (Feature(name=ITEM_ID, type="id", num_ids=2 + _ITEMS, num_oov=1),),
    )
    return build_towers(Schema(user_features=features[0], item_features=features[1], history_length=0), _MODEL)


def train_counts() -> npt.NDArray[np.int64]:
    """Train interactions of each item, long-tailed; all above stock's lowest probability, 1e-6."""
    return (1_000_000 / np.arange(10, 10 + _ITEMS)).astype(np.int64)


def random_batches(counts: npt.NDArray[np.int64], batch_size: int, num_steps: int) -> tf.data.Dataset:
    """Draws items by their counts, so that popular ones meet as accidental hits, and users evenly."""
    rng = np.random.default_rng(0)
    item = rng.choice(_ITEMS, size=num_steps * batch_size, p=counts / counts.sum()).astype(np.int32)
    rows = {
        "item_row": item,
        ITEM_ID: 2 + item,
        USER_ID: 2 + rng.integers(_USERS, size=len(item), dtype=np.int32),
        "weight": np.ones(len(item), np.float32),
    }
    batches = tf.data.Dataset.from_tensor_slices(rows).batch(batch_size, drop_remainder=True).cache().prefetch(1)
    return ending_at_once(batches)


def require_equal_losses(ours: tfrs.Model, stock: tfrs.Model, batch: Batch) -> None:
    """Raises `RuntimeError` when the losses of one batch differ."""
    one, other = (float(model.compute_loss(batch)) for model in (ours, stock))
    if abs(one - other) > LOSS_TOLERANCE * abs(other):
        raise RuntimeError(f"our loss is {one} and stock's {other}: expected a difference of {LOSS_TOLERANCE} at most")


def _fit(model: tfrs.Model, batches: tf.data.Dataset, batch_size: int, num_steps: int) -> Way:
    model.compile(optimizer=make_optimizer(OptimizerConfig(), num_steps))

    def run() -> int:
        model.fit(batches, verbose=0)
        return num_steps * batch_size

    return run
