"""The softmax over in-batch and sampled candidates, and over the whole catalogue."""

import math
from typing import NamedTuple

import tensorflow as tf
import tensorflow_recommenders as tfrs

from recsys.chunked_softmax import cross_entropy
from recsys.distribution import first_global_row, gather_across_replicas, sum_across_replicas
from recsys.known_positives import columns_of


class Negatives(NamedTuple):
    """Candidates that are drawn for a replica's queries.

    Attributes:
      embeddings: [num_negatives, embedding_dim] float32.
      sampling_probability: [num_negatives] float32 q, as of the batch's candidates; None corrects nothing.
      ids: [num_negatives] int32, which tell items apart as those of the batch's candidates do.
    """

    embeddings: tf.Tensor
    sampling_probability: tf.Tensor | None
    ids: tf.Tensor


class Temperature(tf.keras.layers.Layer):
    """Divides queries by a temperature, which stays as it is given, or is learned from there on.

    Learned is its logarithm: it stays above 0, and a step changes it by a share of itself. Its mean over an epoch is a
    metric then.
    """

    def __init__(self, initial: float, learned: bool) -> None:
        """Takes the temperature, above 0, and whether it is learned."""
        super().__init__(name="temperature")
        self._initial = initial
        self._logarithm = None
        if learned:
            start = tf.keras.initializers.Constant(math.log(initial))
            self._logarithm = self.add_weight(name="logarithm", shape=(), initializer=start)
            self._mean = tf.keras.metrics.Mean(name="temperature")

    def call(self, queries: tf.Tensor) -> tf.Tensor:
        """Returns the queries, divided."""
        if self._logarithm is None:
            return queries / self._initial
        temperature = tf.exp(self._logarithm)
        self._mean.update_state(temperature)
        return queries / temperature


class InBatchSoftmax(tfrs.tasks.Retrieval):
    """Cross-entropy of each query's own candidate against all candidates of the global batch.

    For query i with its candidate i, and s(i, j) the dot product divided by the temperature,

        loss_i = -log( exp(s(i, i) - log q_i) / Σ_j exp(s(i, j) - log q_j) )

    where j runs over the candidates of all replicas, and over further negatives, except accidental hits (a j ≠ i with
    the same item as i), other known positives of the query and rows of weight 0, and q_j is the probability that item
    j is at a candidate's position (Yi et al., "Sampling-bias-corrected neural modeling for large corpus item
    recommendations", RecSys 2019, equation 5). Nothing is clamped, and what is left out has softmax weight exactly 0.

    With `num_hardest` j runs over so many of these alone, which have the largest logits as corrected: its parent's
    `num_hard_negatives`.

    The matrix of logits is never held as a whole (`recsys.chunked_softmax`).

    Differs from its parent, `tfrs.tasks.Retrieval`, in: negatives from all replicas, the mean over the global batch
    instead of a sum, exact masks, no floor under q, and `loss_metrics` that receive the loss of each example.
    """

    def __init__(
        self,
        temperature: float,
        loss_metrics: list[tf.keras.metrics.Metric] | None = None,
        learn_temperature: bool = False,
        num_hardest: int | None = None,
    ) -> None:
        """Takes the temperature, metrics of the examples' losses, and how many negatives of each query count."""
        super().__init__(loss_metrics=loss_metrics, name="in_batch_softmax")
        self.temperature = Temperature(temperature, learn_temperature)
        self._num_hardest = num_hardest

    def call(
        self,
        query_embeddings: tf.Tensor,
        candidate_embeddings: tf.Tensor,
        sample_weight: tf.Tensor,
        candidate_sampling_probability: tf.Tensor | None = None,
        candidate_ids: tf.Tensor | None = None,
        negatives: Negatives | None = None,
        known_positives: tf.RaggedTensor | None = None,
    ) -> tf.Tensor:
        """Computes this replica's share of the loss.

        Args:
          query_embeddings: [batch, embedding_dim] float32.
          candidate_embeddings: [batch, embedding_dim] float32; row i is the positive of query i.
          sample_weight: [batch] float32; rows of weight 0 are neither queries nor negatives.
          candidate_sampling_probability: [batch] float32 q; None corrects nothing.
          candidate_ids: [batch] int32 that tell items apart; None keeps accidental hits.
          negatives: further candidates of this replica's queries.
          known_positives: [batch, (num_items)] int32, items as in `candidate_ids` that are no negatives of a query.

        Returns:
          Scalar float32. Its sum over replicas is the weighted mean over the global batch.
        """
        batch_size = tf.shape(query_embeddings)[0]
        candidates = gather_across_replicas(candidate_embeddings)
        all_weights = gather_across_replicas(sample_weight)
        # Without ids, a query has only its own row in common with a candidate.
        own_rows = tf.range(batch_size) + first_global_row(batch_size)
        query_ids = own_rows if candidate_ids is None else candidate_ids
        correction = tf.zeros_like(sample_weight)
        if candidate_sampling_probability is not None:
            # What fills up a batch may be an item that is never sampled.
            correction = tf.where(sample_weight > 0, -tf.math.log(candidate_sampling_probability), 0)
        bias = tf.where(all_weights > 0, gather_across_replicas(correction), -float("inf"))
        all_ids = gather_across_replicas(query_ids)
        if negatives is not None:
            candidates = tf.concat([candidates, negatives.embeddings], axis=0)
            q = negatives.sampling_probability
            bias = tf.concat(
                [bias, tf.zeros_like(negatives.embeddings[:, 0]) if q is None else -tf.math.log(q)], axis=0
            )
            all_ids = tf.concat([all_ids, -1 - negatives.ids if candidate_ids is None else negatives.ids], axis=0)

        queries = self.temperature(query_embeddings)
        loss, losses = cross_entropy(
            queries,
            tf.reduce_sum(queries * candidate_embeddings, axis=1) + correction,
            candidates,
            bias=bias,
            query_ids=query_ids,
            candidate_ids=all_ids,
            weight=_share_of_global_batch(sample_weight),
            left_out=None if known_positives is None else columns_of(known_positives, all_ids),
            num_hardest=self._num_hardest,
        )
        for metric in self._loss_metrics:
            metric.update_state(losses, sample_weight=sample_weight)
        return loss


class FullSoftmax(tf.keras.layers.Layer, tfrs.tasks.Task):
    """Cross-entropy of each query's own candidate against the whole catalogue.

    For query i with its candidate y, and s(i, j) the dot product with item j divided by the temperature,

        loss_i = -log( exp(s(i, y)) / Σ_j exp(s(i, j)) )

    Nothing is sampled, so nothing is corrected. The matrix of logits is never held as a whole, and rows of weight 0
    cost next to nothing (`recsys.chunked_softmax`).
    """

    def __init__(
        self,
        temperature: float,
        loss_metrics: list[tf.keras.metrics.Metric] | None = None,
        learn_temperature: bool = False,
    ) -> None:
        """Takes what `InBatchSoftmax` does."""
        super().__init__(name="full_softmax")
        self.temperature = Temperature(temperature, learn_temperature)
        self._loss_metrics = [] if loss_metrics is None else loss_metrics

    def call(
        self,
        query_embeddings: tf.Tensor,
        catalogue_embeddings: tf.Tensor,
        item_row: tf.Tensor,
        sample_weight: tf.Tensor,
    ) -> tf.Tensor:
        """Computes this replica's share of the loss.

        Args:
          query_embeddings: [batch, embedding_dim] float32.
          catalogue_embeddings: [num_items, embedding_dim] float32.
          item_row: [batch] int32, the row of each query's own candidate in the catalogue.
          sample_weight: [batch] float32.

        Returns:
          Scalar float32. Its sum over replicas is the weighted mean over the global batch.
        """
        queries = self.temperature(query_embeddings)
        loss, losses = cross_entropy(
            queries,
            tf.reduce_sum(queries * tf.gather(catalogue_embeddings, item_row), axis=1),
            catalogue_embeddings,
            bias=tf.zeros_like(catalogue_embeddings[:, 0]),
            query_ids=item_row,
            candidate_ids=tf.range(tf.shape(catalogue_embeddings)[0]),
            weight=_share_of_global_batch(sample_weight),
        )
        for metric in self._loss_metrics:
            metric.update_state(losses, sample_weight=sample_weight)
        return loss


def _share_of_global_batch(sample_weight: tf.Tensor) -> tf.Tensor:
    """Each row's share of what all replicas' rows weigh; a batch in which nothing weighs anything teaches nothing."""
    return tf.math.divide_no_nan(sample_weight, sum_across_replicas(tf.reduce_sum(sample_weight)))
