"""The sampled softmax over in-batch candidates."""

import tensorflow as tf
import tensorflow_recommenders as tfrs

from recsys.distribution import first_global_row, gather_across_replicas, sum_across_replicas


class InBatchSoftmax(tfrs.tasks.Retrieval):
    """Cross-entropy of each query's own candidate against all candidates of the global batch.

    For query i with its candidate i, and s(i, j) the dot product divided by the temperature,

        loss_i = -log( exp(s(i, i) - log q_i) / Σ_j exp(s(i, j) - log q_j) )

    where j runs over the candidates of all replicas except accidental hits (a j ≠ i with the same item as i) and rows
    of weight 0, and q_j is the probability that item j is a candidate of a batch position (Yi et al., "Sampling-bias-
    corrected neural modeling for large corpus item recommendations", RecSys 2019, equation 5). Nothing is clamped, and
    what is left out has softmax weight exactly 0.

    Differs from its parent, `tfrs.tasks.Retrieval`, in: negatives from all replicas, the mean over the global batch
    instead of a sum, exact masks, no floor under q, and `loss_metrics` that receive the loss of each example.
    """

    def __init__(self, temperature: float, loss_metrics: list[tf.keras.metrics.Metric] | None = None) -> None:
        """Takes the temperature, and Keras metrics that summarize the examples' losses."""
        super().__init__(temperature=temperature, loss_metrics=loss_metrics, name="in_batch_softmax")

    def call(
        self,
        query_embeddings: tf.Tensor,
        candidate_embeddings: tf.Tensor,
        sample_weight: tf.Tensor,
        candidate_sampling_probability: tf.Tensor | None = None,
        candidate_ids: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Computes this replica's share of the loss.

        Args:
          query_embeddings: [batch, embedding_dim] float32.
          candidate_embeddings: [batch, embedding_dim] float32; row i is the positive of query i.
          sample_weight: [batch] float32; rows of weight 0 are neither queries nor negatives.
          candidate_sampling_probability: [batch] float32 q; None corrects nothing.
          candidate_ids: [batch] integers that tell items apart; None keeps accidental hits.

        Returns:
          Scalar float32. Its sum over replicas is the weighted mean over the global batch.
        """
        logits = tf.matmul(query_embeddings, gather_across_replicas(candidate_embeddings), transpose_b=True)
        logits /= self._temperature
        if candidate_sampling_probability is not None:
            logits -= tf.math.log(gather_across_replicas(candidate_sampling_probability))

        batch_size, num_candidates = tf.shape(logits)[0], tf.shape(logits)[1]
        positive_column = tf.range(batch_size) + first_global_row(batch_size)
        is_positive = tf.range(num_candidates) == positive_column[:, tf.newaxis]
        left_out = gather_across_replicas(sample_weight)[tf.newaxis, :] == 0
        if candidate_ids is not None:
            left_out |= gather_across_replicas(candidate_ids) == candidate_ids[:, tf.newaxis]
        logits = tf.where(left_out & ~is_positive, -float("inf"), logits)

        positive_logit = tf.gather(logits, positive_column, batch_dims=1)
        losses = tf.reduce_logsumexp(logits, axis=1) - positive_logit
        for metric in self._loss_metrics:
            metric.update_state(losses, sample_weight=sample_weight)
        return tf.reduce_sum(losses * sample_weight) / sum_across_replicas(tf.reduce_sum(sample_weight))
