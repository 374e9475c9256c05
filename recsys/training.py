"""The one training loop."""

from pathlib import Path

import tensorflow as tf

from recsys.artifacts import refuse_existing
from recsys.config import ExperimentConfig, RuntimeConfig, TrainConfig
from recsys.dataset import Dataset
from recsys.distribution import device_names, make_strategy
from recsys.errors import ConfigError
from recsys.evaluation import TwoTowerScorer, evaluate, require_rankable
from recsys.input_pipeline import Feed, training_feed
from recsys.interactions import load_interactions
from recsys.metrics import split_name
from recsys.optimizers import make_optimizer
from recsys.progress import TrainingProgress
from recsys.queries import make_queries
from recsys.retrieval import RetrievalModel
from recsys.run import save_towers, start_run
from recsys.sequence_pipeline import sequence_feed
from recsys.towers import Towers, build_towers


def train(config: ExperimentConfig, runtime: RuntimeConfig, dataset: Dataset, out: Path) -> Towers:
    """Trains both towers and writes a RUN directory.

    The epoch with the best validation metric is kept. One seed gives one result on one kind of device.

    Args:
      config: what to learn.
      runtime: where.
      dataset: what from.
      out: the RUN directory to make.

    Raises:
      OutputExistsError: `out` exists.
      ConfigError: the runtime cannot be had, or a tower would have no feature.
      RequestError: the validation split has no query, or the validation metric's k is beyond the catalogue.
    """
    refuse_existing(out)
    strategy = make_strategy(runtime)
    tf.keras.utils.set_random_seed(config.train.seed)
    tf.config.experimental.enable_op_determinism()
    with strategy.scope():
        towers = build_towers(dataset.schema, config.model, dataset.item_features)
        model = RetrievalModel(towers, config.loss, dataset.train_counts, dataset.item_features, config.train.examples)
    monitored = f"val_{config.train.validation_metric}"
    feed = _feed(strategy, dataset, config.train, towers, model.features)
    with strategy.scope():
        model.compile(optimizer=make_optimizer(config.optimizer, config.train.epochs * feed.steps_per_epoch))
    validation = ValidationMetric(towers, dataset, config)
    # Whatever can be refused has been by now: a run directory means that training began.
    start_run(out, config, runtime, dataset, device_names(strategy))
    model.fit(
        feed.batches,
        epochs=config.train.epochs,
        steps_per_epoch=feed.steps_per_epoch,
        verbose=0,
        callbacks=[
            validation,
            TrainingProgress(config.train.epochs),
            tf.keras.callbacks.CSVLogger(str(out / "history.csv")),
            tf.keras.callbacks.TensorBoard(str(out / "logs"), write_graph=False),
            tf.keras.callbacks.EarlyStopping(
                monitored, mode="max", patience=config.train.patience, restore_best_weights=True
            ),
        ],
    )
    save_towers(out, towers)
    return towers


def _feed(
    strategy: tf.distribute.Strategy, dataset: Dataset, config: TrainConfig, towers: Towers, features: set[str]
) -> Feed:
    length = towers.history_length
    if config.examples == "interactions":
        return training_feed(strategy, dataset, config.batch_size, config.seed, features, length)
    if not length:
        raise ConfigError(
            "train.examples = 'sequences' needs histories: expected a dataset with history_length above 0; "
            "prepare it again, or train on interactions"
        )
    return sequence_feed(strategy, dataset, config.batch_size, length, config.seed, features)


class ValidationMetric(tf.keras.callbacks.Callback):
    """Adds the validation metric to each epoch's logs, exact over the whole catalogue."""

    def __init__(self, towers: Towers, dataset: Dataset, config: ExperimentConfig) -> None:
        """Draws the validation queries, which stay the same for all epochs."""
        super().__init__()
        queries = make_queries(load_interactions(dataset), "validation", "event")
        self._queries = queries.sample(config.train.max_validation_queries, config.train.seed)
        self._metric = config.train.validation_metric
        require_rankable(self._queries, split_name(self._metric)[1])
        self._scorer = TwoTowerScorer(towers, dataset)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Ranks the catalogue for the validation queries."""
        self._scorer.refresh()
        outcome = evaluate(self._scorer, self._queries, [self._metric])
        if logs is not None:
            logs[f"val_{self._metric}"] = outcome.mean(self._metric)
