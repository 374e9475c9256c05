"""The two-tower retrieval model."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_recommenders as tfrs

from recsys.candidates import BatchCandidates, Candidates, CatalogueCandidates, UnseenCandidates
from recsys.config import Examples
from recsys.dataset import Features
from recsys.interactions import Interactions
from recsys.loss_config import FullLossConfig, LossConfig, UnseenLossConfig
from recsys.sampling import HardItems
from recsys.towers import NO_FEATURES, Towers


class RetrievalModel(tfrs.Model):
    """Learns both towers from batches of `recsys.input_pipeline`, `recsys.sequence_pipeline` or `recsys.set_pipeline`.

    `fit` reports `loss`: the example-weighted mean over the epoch; and the mean `temperature` where it is learned.
    """

    def __init__(
        self,
        towers: Towers,
        config: LossConfig,
        train_counts: npt.NDArray[np.int64],
        items: Features = NO_FEATURES,
        examples: Examples = "interactions",
        interactions: Interactions | None = None,
    ) -> None:
        """Puts the parts together.

        Args:
          towers: what to learn.
          config: the loss.
          train_counts: how often each item is a target in an epoch, [num_items] int64, by which an in-batch loss knows
            how often items stand in a batch, unless it estimates that, and draws popular negatives.
          items: the catalogue's features, [num_items] or [num_items, max_length] int32, or float32 where dense: the
            candidates of a full softmax, and what negatives are drawn from.
          examples: whether batches hold interactions, sequences with a query at every position, or sets, with a query
            and several targets each.
          interactions: of the dataset, for a loss that knows what users took, or draws hard negatives.

        Raises:
          ValueError: the loss asks for items or interactions, and they are not given.
        """
        super().__init__()
        self.query_tower = towers.query
        self.candidate_tower = towers.candidate
        self._towers = towers
        self._embed_queries = towers.embed_positions if examples == "sequences" else towers.embed_query
        if isinstance(config, FullLossConfig):
            self._candidates: Candidates = CatalogueCandidates(towers, config, items)
        elif isinstance(config, UnseenLossConfig):
            self._candidates = UnseenCandidates(towers, config, items, interactions)
        else:
            self._candidates = BatchCandidates(towers, config, train_counts, items, interactions)
        self.task = self._candidates.task

    @property
    def random_generators(self) -> list[tf.random.Generator]:
        """What dropout and sampling draw from. Keras leaves these out of checkpoints."""
        random = (layer for layer in self.submodules if isinstance(layer, tf.keras.__internal__.layers.BaseRandomLayer))
        return [layer._random_generator._generator for layer in random]

    @property
    def loss_state(self) -> list[tf.Variable]:
        """What the loss learns beside the towers, or remembers."""
        return self._candidates.state

    @property
    def hard_items(self) -> HardItems | None:
        """What is to be filled as each epoch begins; None where there is nothing."""
        return self._candidates.hard_items

    @property
    def features(self) -> set[str]:
        """The features and columns that a batch must hold."""
        return {*self._towers.query_inputs, *self._candidates.columns}

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Computes the loss of a batch.

        Args:
          inputs: the `features`: `item_row` int32 and `weight` float32, [batch], or [batch, length] for sequences, or
            [batch, num_targets] for sets;
            `user_row` [batch] int32; and what the towers take.
          training: whether dropout applies, and the loss learns from the batch.

        Returns:
          This replica's share, a scalar float32. Its sum over replicas is the weighted mean over the global batch.
        """
        queries = self._embed_queries(inputs, training)
        per_query = {name: _per_query(inputs[name], queries) for name in self._candidates.columns}
        return self._candidates.loss(tf.reshape(queries, [-1, queries.shape[-1]]), per_query, training)

    def train_step(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One optimizer step. Gradients are summed over replicas, as their shares of the loss are."""
        with tf.GradientTape() as tape:
            loss = self.compute_loss(inputs, training=True)
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {metric.name: metric.result() for metric in self.metrics}


def _per_query(column: tf.Tensor, queries: tf.Tensor) -> tf.Tensor:
    """Gives each query a row: [batch, …] as it is, or [batch · length, …] where queries are [batch, length, …]."""
    if queries.shape.rank == 2:
        return column
    if column.shape.rank == 1:
        return tf.repeat(column, queries.shape[1])
    return tf.reshape(column, [-1, *column.shape[2:]])
