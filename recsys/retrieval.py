"""The two-tower retrieval model."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_recommenders as tfrs

from recsys.config import LossConfig
from recsys.losses import InBatchSoftmax
from recsys.towers import Towers


class RetrievalModel(tfrs.Model):
    """Learns both towers from batches of `recsys.input_pipeline.training_batches`.

    `fit` reports `loss`: the example-weighted mean over the epoch.
    """

    def __init__(self, towers: Towers, config: LossConfig, train_counts: npt.NDArray[np.int64]) -> None:
        """Takes the towers, the loss options and each item's train interactions, [num_items] int64."""
        super().__init__()
        self.query_tower = towers.query
        self.candidate_tower = towers.candidate
        self.task = InBatchSoftmax(config.temperature, loss_metrics=[tf.keras.metrics.Mean(name="loss")])
        self._towers = towers
        self._config = config
        # An item is in a batch position with the probability of its share of train rows.
        self._probability = tf.constant(train_counts / train_counts.sum(), tf.float32)

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Returns this replica's share of the batch's loss, a scalar float32."""
        item_row = inputs["item_row"]
        return self.task(
            self._towers.embed_query(inputs, training),
            self._towers.embed_candidate(inputs, training),
            sample_weight=inputs["weight"],
            candidate_sampling_probability=tf.gather(self._probability, item_row) if self._config.log_q else None,
            candidate_ids=item_row if self._config.remove_accidental_hits else None,
        )

    def train_step(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One optimizer step. Gradients are summed over replicas, as their shares of the loss are."""
        with tf.GradientTape() as tape:
            loss = self.compute_loss(inputs, training=True)
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {metric.name: metric.result() for metric in self.metrics}
