"""The two-tower retrieval model."""

from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_recommenders as tfrs

from recsys.config import FullLossConfig, InBatchLossConfig, LossConfig
from recsys.dataset import Features
from recsys.distribution import num_replicas
from recsys.losses import FullSoftmax, InBatchSoftmax, Negatives
from recsys.sampling import UniformItems
from recsys.towers import NO_FEATURES, Towers

Examples = Literal["interactions", "sequences"]


class RetrievalModel(tfrs.Model):
    """Learns both towers from batches of `recsys.input_pipeline` or `recsys.sequence_pipeline`.

    `fit` reports `loss`: the example-weighted mean over the epoch.
    """

    def __init__(
        self,
        towers: Towers,
        config: LossConfig,
        train_counts: npt.NDArray[np.int64],
        items: Features = NO_FEATURES,
        examples: Examples = "interactions",
    ) -> None:
        """Puts the parts together.

        Args:
          towers: what to learn.
          config: the loss.
          train_counts: each item's train interactions, [num_items] int64, to which sampling probabilities of an
            in-batch loss are proportional.
          items: the catalogue's features: the candidates of a full softmax, and what negatives are drawn from.
          examples: whether batches hold interactions, or sequences with a query at every position.
        """
        super().__init__()
        self.query_tower = towers.query
        self.candidate_tower = towers.candidate
        self._towers = towers
        self._embed_queries = towers.embed_query if examples == "interactions" else towers.embed_positions
        if isinstance(config, FullLossConfig):
            self._candidates: _Candidates = _Catalogue(towers, config, items)
        else:
            self._candidates = _InBatch(towers, config, train_counts, items)
        self.task = self._candidates.task

    @property
    def random_generators(self) -> list[tf.random.Generator]:
        """What dropout and sampling draw from. Keras leaves these out of checkpoints."""
        random = (layer for layer in self.submodules if isinstance(layer, tf.keras.__internal__.layers.BaseRandomLayer))
        return [layer._random_generator._generator for layer in random]

    @property
    def features(self) -> set[str]:
        """The features that a batch must hold."""
        return {*self._towers.query_inputs, *self._candidates.features}

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Returns this replica's share of the batch's loss, a scalar float32."""
        queries = self._embed_queries(inputs, training)
        # Every position of a sequence is an example.
        positions = queries.shape.rank - 1
        inputs = {name: _flat(inputs[name], positions) for name in ("item_row", "weight", *self._candidates.features)}
        return self._candidates.loss(_flat(queries, positions), inputs, training)

    def train_step(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One optimizer step. Gradients are summed over replicas, as their shares of the loss are."""
        with tf.GradientTape() as tape:
            loss = self.compute_loss(inputs, training=True)
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {metric.name: metric.result() for metric in self.metrics}


def _flat(tensor: tf.Tensor, num_axes: int) -> tf.Tensor:
    """Joins the first axes: [batch, length, …] → [batch · length, …] for two."""
    return tensor if num_axes == 1 else tf.reshape(tensor, [-1, *tensor.shape[num_axes:]])


def _loss_metrics() -> list[tf.keras.metrics.Metric]:
    return [tf.keras.metrics.Mean(name="loss")]


class _Candidates(Protocol):
    """What queries are compared with. `task` is the loss, `features` what it needs of a batch's candidates."""

    task: tfrs.tasks.Task
    features: list[str]

    def loss(self, queries: tf.Tensor, inputs: dict[str, tf.Tensor], training: bool) -> tf.Tensor:
        """Returns this replica's share of the loss, for `item_row`, `weight` and `features` of a row per query."""


class _InBatch(tf.Module):
    """The batch's candidates, each query's own and the others', and some that are drawn from the catalogue."""

    def __init__(
        self, towers: Towers, config: InBatchLossConfig, train_counts: npt.NDArray[np.int64], items: Features
    ) -> None:
        super().__init__()
        self.task = InBatchSoftmax(config.temperature, _loss_metrics())
        self.features = towers.candidate_inputs
        self._towers = towers
        self._config = config
        # An item is in a batch position with the probability of its share of train rows.
        self._in_batch = tf.constant(train_counts / train_counts.sum(), tf.float32)
        self._num_items = len(train_counts)
        self._sampler = UniformItems(config.uniform_negatives, self._num_items)
        drawn_features = towers.candidate_inputs if config.uniform_negatives else []
        self._items = {name: tf.constant(items[name]) for name in drawn_features}

    def loss(self, queries: tf.Tensor, inputs: dict[str, tf.Tensor], training: bool) -> tf.Tensor:
        item_row = inputs["item_row"]
        weight = inputs["weight"]
        batch_size = weight.shape[0] * num_replicas()
        return self.task(
            queries,
            self._towers.embed_candidate(inputs, training),
            sample_weight=weight,
            candidate_sampling_probability=self._probability(item_row, batch_size),
            candidate_ids=item_row if self._config.remove_accidental_hits else None,
            negatives=self._negatives(batch_size, training) if self._items else None,
        )

    def _negatives(self, batch_size: int, training: bool) -> Negatives:
        drawn = self._sampler.draw()
        features = {name: tf.gather(values, drawn) for name, values in self._items.items()}
        return Negatives(self._towers.embed_candidate(features, training), self._probability(drawn, batch_size), drawn)

    def _probability(self, item_row: tf.Tensor, batch_size: int) -> tf.Tensor | None:
        """The share of a query's candidates that are the item, in the mean over steps; None without correction."""
        if not self._config.log_q:
            return None
        drawn = self._config.uniform_negatives
        return (batch_size * tf.gather(self._in_batch, item_row) + drawn / self._num_items) / (batch_size + drawn)


class _Catalogue:
    """All candidates that there are, embedded anew in each step; a batch holds their rows only."""

    def __init__(self, towers: Towers, config: FullLossConfig, items: Features) -> None:
        self.task = FullSoftmax(config.temperature, _loss_metrics())
        self.features: list[str] = []
        self._towers = towers
        self._items = {name: tf.constant(items[name]) for name in towers.candidate_inputs}

    def loss(self, queries: tf.Tensor, inputs: dict[str, tf.Tensor], training: bool) -> tf.Tensor:
        catalogue = self._towers.embed_candidate(self._items, training)
        return self.task(queries, catalogue, item_row=inputs["item_row"], sample_weight=inputs["weight"])
