"""What queries are compared with: the batch's candidates and drawn ones, the catalogue, or what users did not take."""

from typing import Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_recommenders as tfrs

from recsys.dataset import Features
from recsys.distribution import sum_across_replicas
from recsys.frequencies import Frequencies, StreamingFrequencies, TrainShares
from recsys.interactions import Interactions
from recsys.known_positives import KnownPositives, columns_of
from recsys.loss_config import FullLossConfig, InBatchLossConfig, NegativesConfig, UnseenLossConfig
from recsys.losses import FullSoftmax, InBatchSoftmax, Negatives, UnseenSoftmax
from recsys.sampling import HardItems, ItemSampler, PopularItems, UniformItems
from recsys.towers import Towers


class Candidates(Protocol):
    """What queries are compared with.

    Attributes:
      task: the loss.
      columns: what it needs of a batch.
      state: what it learns beside the towers, or remembers.
      hard_items: what is to be filled as each epoch begins; None where there is nothing.
    """

    task: tfrs.tasks.Task
    columns: list[str]
    state: list[tf.Variable]
    hard_items: HardItems | None

    def loss(self, queries: tf.Tensor, inputs: dict[str, tf.Tensor], training: bool) -> tf.Tensor:
        """Returns this replica's share of the loss.

        Args:
          queries: [batch, embedding_dim] float32.
          inputs: the `columns`, with a row per query: `item_row`, `user_row` [batch] int32, `weight` [batch] float32,
            and features of the items, [batch] or [batch, max_length] int32, or float32 where dense; of sets
            `item_row`, `weight` and features of items are [batch, num_targets, …].
          training: whether dropout applies, and the loss learns from the batch.

        Returns:
          Scalar float32. Its sum over replicas is the weighted mean over the global batch.
        """


class BatchCandidates(tf.Module):
    """The batch's candidates, each query's own and the others', and some that are drawn from the catalogue."""

    def __init__(
        self,
        towers: Towers,
        config: InBatchLossConfig,
        train_counts: npt.NDArray[np.int64],
        items: Features,
        interactions: Interactions | None,
    ) -> None:
        """Takes what `recsys.retrieval.RetrievalModel` does.

        Raises:
          ValueError: the loss asks for what users took, or draws items, and they are not given.
        """
        super().__init__()
        self.task = InBatchSoftmax(config.temperature, _loss_metrics(), config.learn_temperature, config.num_hardest)
        self._mask = config.mask
        self._known_positives = _known_positives(config, interactions)
        self._frequencies = _frequencies(config, train_counts)
        self._samplers = _samplers(config.negatives, train_counts)
        self.hard_items = _hard_items(config.negatives, interactions)
        self._num_drawn = sum(sampler.number for sampler in self._samplers) + config.negatives.hard
        self._towers = towers
        self._items = _catalogue(items, towers.candidate_inputs if self._num_drawn else [])
        self.columns = ["item_row", "weight", *towers.candidate_inputs]
        if self._known_positives is not None or self.hard_items is not None:
            self.columns.append("user_row")
        self.state = list(self.task.trainable_weights)
        if isinstance(self._frequencies, StreamingFrequencies):
            self.state += self._frequencies.variables

    def loss(self, queries: tf.Tensor, inputs: dict[str, tf.Tensor], training: bool) -> tf.Tensor:
        """Returns this replica's share of the loss, as `Candidates` says."""
        item_row = inputs["item_row"]
        weight = inputs["weight"]
        batch_size = sum_across_replicas(tf.math.count_nonzero(weight, dtype=tf.float32))
        if training and self._frequencies is not None:
            self._frequencies.observe(item_row, weight)
        known_positives = None
        if self._known_positives is not None:
            known_positives = self._known_positives.of(inputs["user_row"], weight)
        own_negatives = None
        if self.hard_items is not None:
            own_negatives = self._own_negatives(self.hard_items, inputs["user_row"], batch_size, training)
        return self.task(
            queries,
            self._towers.embed_candidate(inputs, training),
            sample_weight=weight,
            candidate_sampling_probability=self._probability(item_row, batch_size, in_batch=True),
            candidate_ids=item_row if self._mask != "nothing" else None,
            negatives=self._negatives(batch_size, training) if self._samplers else None,
            known_positives=known_positives,
            own_negatives=own_negatives,
        )

    def _negatives(self, batch_size: tf.Tensor, training: bool) -> Negatives:
        drawn = tf.concat([sampler.draw() for sampler in self._samplers], axis=0)
        return Negatives(self._embed(drawn, training), self._probability(drawn, batch_size), drawn)

    def _own_negatives(
        self, hard_items: HardItems, user_row: tf.Tensor, batch_size: tf.Tensor, training: bool
    ) -> Negatives:
        drawn = hard_items.draw(user_row)
        items = tf.maximum(tf.reshape(drawn, [-1]), 0)
        embedded = tf.reshape(self._embed(items, training), [*drawn.shape, -1])
        q = self._probability(items, batch_size, hard_items.number / hard_items.depth)
        return Negatives(embedded, None if q is None else tf.reshape(q, drawn.shape), drawn)

    def _embed(self, item_row: tf.Tensor, training: bool) -> tf.Tensor:
        features = {name: tf.gather(values, item_row) for name, values in self._items.items()}
        return self._towers.embed_candidate(features, training)

    def _probability(
        self, item_row: tf.Tensor, batch_size: tf.Tensor, expected_alone: float = 0.0, in_batch: bool = False
    ) -> tf.Tensor | None:
        """The share of a query's candidates that are the item, in the mean over steps; None without correction.

        Args:
          item_row: [num_items] int32.
          batch_size: candidates of the global batch, those of weight 0 apart; scalar float32.
          expected_alone: how many times each is expected among the candidates of its query alone.
          in_batch: whether the items stand in the batch, where each can be, even one that no training step holds.
        """
        if self._frequencies is None:
            return None
        expected = self._frequencies.expected(item_row, batch_size)
        if in_batch:
            expected = tf.maximum(expected, self._frequencies.least(batch_size))
        expected += expected_alone
        expected += sum(sampler.expected(item_row) for sampler in self._samplers)
        return expected / (batch_size + self._num_drawn)


class CatalogueCandidates(tf.Module):
    """All candidates that there are, embedded anew in each step; a batch holds their rows only."""

    def __init__(self, towers: Towers, config: FullLossConfig, items: Features) -> None:
        """Takes what `recsys.retrieval.RetrievalModel` does.

        Raises:
          ValueError: items are not given.
        """
        super().__init__()
        self.task = FullSoftmax(config.temperature, _loss_metrics(), config.learn_temperature)
        self.columns = ["item_row", "weight"]
        self.state = list(self.task.trainable_weights)
        self.hard_items: HardItems | None = None
        self._towers = towers
        self._items = _catalogue(items, towers.candidate_inputs)

    def loss(self, queries: tf.Tensor, inputs: dict[str, tf.Tensor], training: bool) -> tf.Tensor:
        """Returns this replica's share of the loss, as `Candidates` says."""
        catalogue = self._towers.embed_candidate(self._items, training)
        return self.task(queries, catalogue, item_row=inputs["item_row"], sample_weight=inputs["weight"])


class UnseenCandidates(tf.Module):
    """What the query's user did not take in train: of the whole catalogue, or of some items drawn evenly from it."""

    def __init__(
        self, towers: Towers, config: UnseenLossConfig, items: Features, interactions: Interactions | None
    ) -> None:
        """Takes what `recsys.retrieval.RetrievalModel` does.

        Raises:
          ValueError: items or interactions are not given.
        """
        super().__init__()
        self.task = UnseenSoftmax(config.temperature, _loss_metrics())
        self.columns = ["user_row", "weight", *towers.candidate_inputs]
        self.state: list[tf.Variable] = []
        self.hard_items: HardItems | None = None
        self._known_positives = KnownPositives(_needed(interactions))
        self._towers = towers
        self._items = _catalogue(items, towers.candidate_inputs)
        self._num_items = _needed(interactions).num_items
        self._sampler = None if config.negatives is None else UniformItems(config.negatives, self._num_items)

    def loss(self, queries: tf.Tensor, inputs: dict[str, tf.Tensor], training: bool) -> tf.Tensor:
        """Returns this replica's share of the loss, as `Candidates` says."""
        weight = inputs["weight"]
        known_positives = self._known_positives.of(inputs["user_row"], tf.reduce_sum(weight, axis=1))
        negatives = self._items
        if self._sampler is not None:
            drawn = self._sampler.draw()
            negatives = {name: tf.gather(values, drawn) for name, values in self._items.items()}
            known_positives = columns_of(known_positives, drawn)
        # Padding is not embedded: it would be a step for the rows of the item that it is of.
        present = weight > 0
        targets = {name: tf.boolean_mask(inputs[name], present) for name in self._towers.candidate_inputs}
        return self.task(
            queries,
            self._towers.embed_candidate(targets, training),
            query_of_target=tf.where(present)[:, 0],
            sample_weight=tf.boolean_mask(weight, present),
            negative_embeddings=self._towers.embed_candidate(negatives, training),
            known_positives=known_positives,
            num_items=self._num_items,
        )


def _catalogue(items: Features, names: list[str]) -> dict[str, tf.Tensor]:
    """The named features of all items, [num_items] or [num_items, max_length] each."""
    if missing := ", ".join(sorted(set(names) - set(items))):
        raise ValueError(f"the loss embeds items: expected {missing} of the catalogue, received none; pass items")
    return {name: tf.constant(items[name]) for name in names}


def _loss_metrics() -> list[tf.keras.metrics.Metric]:
    return [tf.keras.metrics.Mean(name="loss")]


def _known_positives(config: InBatchLossConfig, interactions: Interactions | None) -> KnownPositives | None:
    if config.mask != "known_positives":
        return None
    return KnownPositives(_needed(interactions))


def _hard_items(config: NegativesConfig, interactions: Interactions | None) -> HardItems | None:
    if not config.hard:
        return None
    return HardItems(config.hard, config.hard_depth, len(_needed(interactions).user_start) - 1)


def _needed(interactions: Interactions | None) -> Interactions:
    if interactions is None:
        raise ValueError("the loss asks for what users took: expected interactions, received None")
    return interactions


def _frequencies(config: InBatchLossConfig, train_counts: npt.NDArray[np.int64]) -> Frequencies | None:
    if config.log_q == "streaming":
        return StreamingFrequencies(len(train_counts), config.streaming_rate)
    return TrainShares(train_counts) if config.log_q == "train_counts" else None


def _samplers(config: NegativesConfig, train_counts: npt.NDArray[np.int64]) -> list[ItemSampler]:
    samplers: list[ItemSampler] = []
    if config.uniform:
        samplers.append(UniformItems(config.uniform, len(train_counts)))
    if config.popular:
        samplers.append(PopularItems(config.popular, train_counts, config.popularity_power))
    return samplers
