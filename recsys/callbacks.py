"""What happens between steps: each epoch's hard negatives and validation metric, and a look for odd losses."""

import numpy as np
import tensorflow as tf

from recsys.config import ExperimentConfig
from recsys.dataset import Dataset
from recsys.errors import ConfigError, RequestError, TrainingError
from recsys.evaluation import TwoTowerScorer, evaluate, rank, require_rankable
from recsys.interactions import Interactions
from recsys.metrics import split_name
from recsys.queries import make_queries, make_train_queries
from recsys.sampling import HardItems
from recsys.towers import Towers

_BATCHES_PER_LOOK = 64


class ValidationMetric(tf.keras.callbacks.Callback):
    """Adds the validation metric to each epoch's logs, exact over the whole catalogue."""

    def __init__(self, towers: Towers, dataset: Dataset, interactions: Interactions, config: ExperimentConfig) -> None:
        """Draws the validation queries, which stay the same for all epochs."""
        super().__init__()
        queries = make_queries(interactions, "validation", "event")
        self._queries = queries.sample(config.train.max_validation_queries, config.train.seed)
        self._metric = config.train.validation_metric
        require_rankable(self._queries, split_name(self._metric)[1])
        self._scorer = TwoTowerScorer(towers, dataset)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Ranks the catalogue for the validation queries.

        Raises:
          TrainingError: a score is NaN, as after a last step whose gradient was no finite number.
        """
        self._scorer.refresh()
        try:
            outcome = evaluate(self._scorer, self._queries, [self._metric])
        except RequestError as error:
            # Whatever else can be refused was so when the queries were drawn.
            steps = self.params["steps"]
            raise _not_finite("a validation score is nan after", steps, epoch, steps) from error
        if logs is not None:
            logs[f"val_{self._metric}"] = outcome.mean(self._metric)


class RequireFiniteWeights(tf.keras.callbacks.Callback):
    """Stops training after an epoch whose last step spoiled the weights, where no validation metric would tell."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Looks at all that is learned.

        Raises:
          TrainingError: a weight is no finite number.
        """
        for variable in self.model.trainable_variables:
            if not tf.reduce_all(tf.math.is_finite(variable)):
                steps = self.params["steps"]
                raise _not_finite("a weight is nan or infinite after", steps, epoch, steps)


class RefreshHardItems(tf.keras.callbacks.Callback):
    """As each epoch begins, finds what the towers rank highest for each user beyond its train items.

    It follows from the weights: a run that is resumed finds the same.
    """

    def __init__(self, hard_items: HardItems, towers: Towers, dataset: Dataset, interactions: Interactions) -> None:
        """Takes what to fill, and the users' train items.

        Raises:
          ConfigError: more items of each user are wanted than there are.
        """
        super().__init__()
        if hard_items.depth > interactions.num_items:
            raise ConfigError(
                f"loss.negatives.hard_depth = {hard_items.depth} is larger than the catalogue: "
                f"expected at most {interactions.num_items}"
            )
        self._hard_items = hard_items
        self._queries = make_train_queries(interactions)
        self._scorer = TwoTowerScorer(towers, dataset)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Ranks the catalogue for every user, exactly."""
        self._scorer.refresh()
        self._hard_items.fill(self._queries.user_row, rank(self._scorer, self._queries, self._hard_items.depth))


class RequireFiniteLoss(tf.keras.callbacks.Callback):
    """Ends training when the loss has stopped being a finite number, and tells the step at which it did.

    It looks at the losses of 64 steps at once, and at the end of an epoch: a look at each would let a GPU wait, between
    any two steps, for the host to have seen the first. Nothing is saved before an epoch's end.

    Raises:
      TrainingError: naming the epoch, the batch in it, which the seed gives again, and the step of the whole training.
    """

    def __init__(self) -> None:
        """Begins in no epoch."""
        super().__init__()
        # Keras would otherwise copy the logs to the host at every step.
        self._supports_tf_logs = True
        self._epoch = 0
        self._num_seen = 0
        self._unseen: list[tf.Tensor] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Notes the epoch."""
        self._epoch, self._num_seen, self._unseen = epoch, 0, []

    def on_train_batch_end(self, batch: int, logs: dict[str, tf.Tensor] | None = None) -> None:
        """Keeps the epoch's mean so far, which stays what it is once a loss was not finite."""
        self._unseen.append((logs or {})["loss"])
        if len(self._unseen) == _BATCHES_PER_LOOK:
            self._look()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Looks at what is left."""
        self._look()

    def _look(self) -> None:
        losses = np.array([float(loss) for loss in self._unseen])
        wrong = np.flatnonzero(~np.isfinite(losses))
        if len(wrong):
            loss, batch = losses[wrong[0]], self._num_seen + wrong[0] + 1
            raise _not_finite(f"the loss is {loss} at", batch, self._epoch, self.params["steps"])
        self._num_seen += len(losses)
        self._unseen = []


def _not_finite(what: str, batch: int, epoch: int, steps_per_epoch: int) -> TrainingError:
    """The error for a batch, counted from 1, of an epoch, counted from 0."""
    return TrainingError(
        f"{what} batch {batch} of epoch {epoch + 1} (step {epoch * steps_per_epoch + batch}): expected a finite "
        "number; lower the learning rate, or look for extreme values in numeric features"
    )
