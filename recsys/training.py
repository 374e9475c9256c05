"""The one training loop."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from recsys.artifacts import refuse_existing
from recsys.callbacks import RefreshHardItems, RequireFiniteLoss, RequireFiniteWeights, ValidationMetric
from recsys.checkpoints import Checkpoints
from recsys.config import ExperimentConfig, RuntimeConfig, TrainConfig
from recsys.dataset import Dataset
from recsys.distribution import device_names, make_strategy
from recsys.errors import ConfigError
from recsys.input_pipeline import Feed, training_feed
from recsys.interactions import Interactions, load_interactions, target_counts
from recsys.loss_config import InBatchLossConfig, UnseenLossConfig
from recsys.optimizers import make_optimizer
from recsys.progress import TrainingProgress
from recsys.retrieval import RetrievalModel
from recsys.run import require_same_beginning, save_towers, start_run
from recsys.schema import SPLITS
from recsys.sequence_pipeline import sequence_feed
from recsys.set_pipeline import set_feed
from recsys.tensorboard_logs import scalars_and_profile, write_hyperparameters, write_outcome, write_projector
from recsys.towers import Towers, build_towers


def train(
    config: ExperimentConfig, runtime: RuntimeConfig, dataset: Dataset, out: Path, resume: bool = False
) -> Towers:
    """Trains both towers and writes a RUN directory.

    The epoch with the best validation metric is kept; of a dataset that validates nothing, the last one. One seed gives
    one result on one kind of device.

    Args:
      config: what to learn.
      runtime: where.
      dataset: what from.
      out: the RUN directory to make.
      resume: go on with an unfinished run in `out`, if there is one, after the last epoch that it finished. The result
        is that of a run that was never interrupted.

    Raises:
      OutputExistsError: `out` exists, and is not to be resumed.
      RunError: what is to be resumed is finished, damaged, or was begun otherwise.
      ConfigError: the runtime cannot be had or does not go with the loss, a tower would have no feature, sets would
        show what they hide, or sequences and sets have no history.
      RequestError: no row of the validation split asks for anything new, or the validation metric's k is beyond the
        catalogue.
      TrainingError: the loss or a validation score is not finite.
    """
    _require_compilable(config, runtime)
    if resume := resume and out.exists():
        require_same_beginning(out, config, runtime, dataset)
    else:
        refuse_existing(out)
    strategy = make_strategy(runtime)
    tf.keras.utils.set_random_seed(config.train.seed)
    tf.config.experimental.enable_op_determinism()
    interactions = load_interactions(dataset)
    if config.train.examples == "sets":
        _require_no_repeats(interactions)
    with strategy.scope():
        towers = build_towers(dataset.schema, config.model, dataset.item_features, runtime)
        examples = config.train.examples
        counts = target_counts(interactions, examples)
        model = RetrievalModel(towers, config.loss, counts, dataset.item_features, examples, interactions)
    feed = _feed(strategy, dataset, config.train, towers, model.features)
    with strategy.scope():
        optimizer = make_optimizer(config.optimizer, config.train.epochs * feed.steps_per_epoch, runtime.xla)
        optimizer.build(model.trainable_variables)
        model.compile(optimizer=optimizer, jit_compile=runtime.xla)
    logs = out / "logs"
    validates = dataset.manifest.split_rule.validation
    checkpoints = Checkpoints(out, model, optimizer, config.train, validates)
    if resume:
        checkpoints.restore_last()
        feed = _feed(strategy, dataset, config.train, towers, model.features, checkpoints.num_epochs)
    callbacks = [
        RequireFiniteLoss(),
        ValidationMetric(towers, dataset, interactions, config) if validates else RequireFiniteWeights(),
        TrainingProgress(config.train.epochs),
        scalars_and_profile(logs, runtime, feed.steps_per_epoch, checkpoints.num_epochs),
        checkpoints,
    ]
    if model.hard_items is not None:
        callbacks.append(RefreshHardItems(model.hard_items, towers, dataset, interactions))
    if not resume:
        # Whatever can be refused has been by now: a run directory means that training began.
        start_run(out, config, runtime, dataset, device_names(strategy))
    write_hyperparameters(logs, config, dataset)
    if not checkpoints.is_over:
        model.fit(
            feed.batches,
            initial_epoch=checkpoints.num_epochs,
            epochs=config.train.epochs,
            steps_per_epoch=feed.steps_per_epoch,
            verbose=0,
            callbacks=callbacks,
        )
    checkpoints.restore_best()
    if checkpoints.best_value is not None:
        write_outcome(logs, config.train.validation_metric, checkpoints.best_value, checkpoints.best_epoch)
    write_projector(logs, towers, dataset)
    save_towers(out, towers)
    return towers


def _require_compilable(config: ExperimentConfig, runtime: RuntimeConfig) -> None:
    if not runtime.xla:
        return
    if isinstance(config.loss, UnseenLossConfig):
        looks_up, expected = "loss.name = 'unseen_softmax'", "another loss, and examples other than sets"
    elif isinstance(config.loss, InBatchLossConfig) and config.loss.mask == "known_positives":
        looks_up, expected = "loss.mask = 'known_positives'", "'accidental_hits' or 'nothing'"
    else:
        return
    raise ConfigError(
        f"{looks_up} finds another number of items in each batch, and XLA compiles for one: expected {expected}, or a "
        "runtime with xla = false"
    )


def _require_no_repeats(interactions: Interactions) -> None:
    in_train = interactions.split == SPLITS.index("train")
    pairs = interactions.user_row.astype(np.int64) * interactions.num_items + interactions.item_row
    num_repeats = in_train.sum() - len(np.unique(pairs[in_train]))
    if num_repeats:
        raise ConfigError(
            "train.examples = 'sets' would show a repeated item beside its hidden self: expected each item of a user "
            f"once in train, received {num_repeats} repeats; prepare the dataset with filters.duplicates = 'first'"
        )


def _feed(
    strategy: tf.distribute.Strategy,
    dataset: Dataset,
    config: TrainConfig,
    towers: Towers,
    features: set[str],
    first_epoch: int = 0,
) -> Feed:
    length = towers.history_length
    if not length and config.examples != "interactions":
        raise ConfigError(
            f"train.examples = {config.examples!r} needs histories: expected a dataset with history_length above 0; "
            "prepare it again, or choose 'interactions' and a loss of theirs"
        )
    if config.examples == "interactions":
        return training_feed(strategy, dataset, config.batch_size, config.seed, features, length, first_epoch)
    if config.examples == "sets":
        return set_feed(strategy, dataset, config.batch_size, length, config.hidden, config.seed, features, first_epoch)
    return sequence_feed(strategy, dataset, config.batch_size, length, config.seed, features, first_epoch)
