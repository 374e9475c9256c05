"""The softmax over in-batch and sampled candidates, and over the whole catalogue."""

import math
from typing import NamedTuple

import tensorflow as tf
import tensorflow_recommenders as tfrs

from recsys.chunked_softmax import cross_entropy
from recsys.distribution import first_global_row, gather_across_replicas, sum_across_replicas
from recsys.known_positives import columns_of


class Negatives(NamedTuple):
    """Candidates that are drawn for a replica's queries: for all of them, or [batch, …] for each alone.

    Attributes:
      embeddings: [num_negatives, embedding_dim] float32.
      sampling_probability: [num_negatives] float32 q, as of the batch's candidates; None corrects nothing.
      ids: [num_negatives] int32, which tell items apart as those of the batch's candidates do; -1 is no item.
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
        """Returns [batch, embedding_dim] float32, the queries of that shape, divided."""
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
    `num_hard_negatives`. Negatives of a query alone come on top.

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
        own_negatives: Negatives | None = None,
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
          own_negatives: further candidates of each query alone, which none of the masks concern.

        Returns:
          Scalar float32. Its sum over replicas is the weighted mean over the global batch.

        Raises:
          ValueError: there are known positives, and no ids to find them by.
        """
        if known_positives is not None and candidate_ids is None:
            raise ValueError("known_positives are found by id: expected candidate_ids, received None; pass both")
        correction = tf.zeros_like(sample_weight)
        if candidate_sampling_probability is not None:
            # What fills up a batch may be an item that is never sampled.
            correction = tf.where(sample_weight > 0, -tf.math.log(candidate_sampling_probability), 0)
        query_ids = candidate_ids
        if candidate_ids is None:
            # A query has only its own row in common with a candidate.
            batch_size = tf.shape(query_embeddings)[0]
            query_ids = tf.range(batch_size) + first_global_row(batch_size)
        candidates, bias, all_ids = _columns(candidate_embeddings, correction, query_ids, sample_weight)
        if negatives is not None:
            drawn_ids = -1 - negatives.ids if candidate_ids is None else negatives.ids
            drawn = (negatives.embeddings, _correction_of(negatives), drawn_ids)
            candidates, bias, all_ids = (
                tf.concat(columns, axis=0) for columns in zip((candidates, bias, all_ids), drawn, strict=True)
            )

        queries = self.temperature(query_embeddings)
        positive_logit = tf.reduce_sum(queries * candidate_embeddings, axis=1) + correction
        own_logit = positive_logit if own_negatives is None else _with_own(queries, positive_logit, own_negatives)
        weight = _share_of_global_batch(sample_weight)
        loss, losses = cross_entropy(
            queries,
            own_logit,
            candidates,
            bias=bias,
            query_ids=query_ids,
            candidate_ids=all_ids,
            weight=weight,
            left_out=None if known_positives is None else columns_of(known_positives, all_ids),
            num_hardest=self._num_hardest,
        )
        if own_negatives is not None:
            # All that is a query's own has stood in for its positive: -log(own / total) - log(positive / own).
            own_losses = own_logit - positive_logit
            loss += tf.reduce_sum(weight * own_losses)
            losses += own_losses
        for metric in self._loss_metrics:
            metric.update_state(losses, sample_weight=sample_weight)
        return loss


def _columns(
    embeddings: tf.Tensor, correction: tf.Tensor, ids: tf.Tensor, weight: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The candidates of the global batch: their embeddings, what is added to their logits, and their ids."""
    bias = tf.where(gather_across_replicas(weight) > 0, gather_across_replicas(correction), -float("inf"))
    return gather_across_replicas(embeddings), bias, gather_across_replicas(ids)


def _correction_of(negatives: Negatives) -> tf.Tensor:
    """What is added to the logits of negatives, of the shape of their ids."""
    q = negatives.sampling_probability
    return tf.zeros_like(negatives.embeddings[..., 0]) if q is None else -tf.math.log(q)


def _with_own(queries: tf.Tensor, positive_logit: tf.Tensor, negatives: Negatives) -> tf.Tensor:
    """The logarithm of the summed exponentials of a query's positive and its own negatives, [batch] float32."""
    logits = tf.einsum("bd,bnd->bn", queries, negatives.embeddings) + _correction_of(negatives)
    logits = tf.where(negatives.ids < 0, -float("inf"), logits)
    return tf.reduce_logsumexp(tf.concat([positive_logit[:, tf.newaxis], logits], axis=1), axis=1)


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


class UnseenSoftmax(tf.keras.layers.Layer, tfrs.tasks.Task):
    """Cross-entropy of each of a query's targets against the items that its user did not take.

    For query i with a target y, and s(i, j) the dot product with item j divided by the temperature,

        loss_iy = log( Σ_j exp(s(i, j)) ) - s(i, y)

    where j runs over the negatives but known positives, y itself among these: it is decoupled (Yeh et al., "Decoupled
    contrastive learning", ECCV 2022), so that all of a query's targets share one sum. So it is not bounded by 0 below,
    and needs embeddings of bounded length. Where negatives are drawn evenly from the catalogue, the sum is scaled up
    to it, which changes no gradient. A query that nothing is left to be compared with has loss 0, and no gradient.

    The matrix of logits is never held as a whole (`recsys.chunked_softmax`).
    """

    def __init__(self, temperature: float, loss_metrics: list[tf.keras.metrics.Metric] | None = None) -> None:
        """Takes the temperature, and metrics of the queries' losses."""
        super().__init__(name="unseen_softmax")
        self._temperature = temperature
        self._loss_metrics = [] if loss_metrics is None else loss_metrics

    def call(
        self,
        query_embeddings: tf.Tensor,
        target_embeddings: tf.Tensor,
        query_of_target: tf.Tensor,
        sample_weight: tf.Tensor,
        negative_embeddings: tf.Tensor,
        known_positives: tf.RaggedTensor,
        num_items: int,
    ) -> tf.Tensor:
        """Computes this replica's share of the loss.

        Args:
          query_embeddings: [batch, embedding_dim] float32.
          target_embeddings: [num_targets, embedding_dim] float32, of all queries.
          query_of_target: [num_targets] int64, rows of `query_embeddings`.
          sample_weight: [num_targets] float32.
          negative_embeddings: [num_negatives, embedding_dim] float32.
          known_positives: [batch, (num_columns)] int32, which negatives a query is not compared with.
          num_items: in the catalogue.

        Returns:
          Scalar float32. Its sum over replicas is the weighted mean over the targets of the global batch.
        """
        queries = query_embeddings / self._temperature
        batch_size, num_negatives = tf.shape(queries)[0], tf.shape(negative_embeddings)[0]
        share = _share_of_global_batch(sample_weight)
        weight = tf.math.unsorted_segment_sum(share, query_of_target, batch_size)
        # As the loss is linear in them, a query's targets are one positive: their mean.
        total = tf.math.unsorted_segment_sum(share[:, tf.newaxis] * target_embeddings, query_of_target, batch_size)
        positives = tf.math.divide_no_nan(total, weight[:, tf.newaxis])
        scale = tf.math.log(num_items / tf.cast(num_negatives, tf.float32))
        loss, losses = cross_entropy(
            queries,
            tf.reduce_sum(queries * positives, axis=1),
            negative_embeddings,
            bias=tf.fill([num_negatives], scale),
            query_ids=tf.fill([batch_size], -1),
            candidate_ids=tf.range(num_negatives),
            weight=weight,
            left_out=known_positives,
            decoupled=True,
        )
        for metric in self._loss_metrics:
            metric.update_state(
                losses, sample_weight=tf.math.unsorted_segment_sum(sample_weight, query_of_target, batch_size)
            )
        return loss


def _share_of_global_batch(sample_weight: tf.Tensor) -> tf.Tensor:
    """Each row's share of what all replicas' rows weigh; a batch in which nothing weighs anything teaches nothing."""
    return tf.math.divide_no_nan(sample_weight, sum_across_replicas(tf.reduce_sum(sample_weight)))
