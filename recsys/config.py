"""Frozen, typed configuration: what to learn (`ExperimentConfig`) and where to run (`RuntimeConfig`).

Imports no TensorFlow. Each default is written here and nowhere else.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from recsys.schema import Frozen

MAX_K = 1000


class HistoryConfig(Frozen):
    """How the items that a user took before are seen by the query tower.

    Attributes:
      share_item_table: look history up in the candidate tower's id table instead of in one of its own.
      id_dropout: fraction of the history's items made out-of-vocabulary in training.
    """

    share_item_table: bool = True
    id_dropout: float = Field(default=0.1, ge=0, lt=1)


class TowerConfig(Frozen):
    """One tower. Features are embedded, pooled, summed, and passed through the hidden layers.

    Attributes:
      use_id: whether the user's or item's own id is a feature.
      id_dropout: fraction of ids made out-of-vocabulary in training, so that unknown users and items are served well
        by everything else that is known of them.
      content_features: whether the features beside the id and the history are used.
      hidden_units: widths of ReLU layers; a linear layer to `embedding_dim` follows when there are any.
      dropout: fraction of each hidden layer's units dropped in training.
    """

    use_id: bool = True
    id_dropout: float = Field(default=0.1, ge=0, lt=1)
    content_features: bool = True
    hidden_units: tuple[Annotated[int, Field(ge=1)], ...] = ()
    dropout: float = Field(default=0.0, ge=0, lt=1)


class ModelConfig(Frozen):
    """Both towers.

    Attributes:
      embedding_dim: the width of every embedding.
      normalize: scale query and candidate embeddings to length 1, so that scores are cosines.
    """

    embedding_dim: int = Field(default=64, ge=1)
    normalize: bool = True
    history: HistoryConfig = HistoryConfig()
    query: TowerConfig = TowerConfig()
    candidate: TowerConfig = TowerConfig()


class LossConfig(Frozen):
    """Softmax over the global batch's candidates.

    Attributes:
      temperature: scores are divided by it.
      log_q: subtract the logarithm of each candidate's sampling probability, so that popular items are not punished
        for being negatives more often.
      remove_accidental_hits: a negative that is the query's own positive gets softmax weight exactly 0.
    """

    temperature: float = Field(default=0.1, gt=0)
    log_q: bool = True
    remove_accidental_hits: bool = True


class AdagradConfig(Frozen):
    """Adagrad (Duchi et al., 2011).

    Attributes:
      learning_rate: the step size.
      initial_accumulator: the starting value of the squared-gradient sums.
    """

    learning_rate: float = Field(default=0.3, gt=0)
    initial_accumulator: float = Field(default=0.1, gt=0)


class AdamConfig(Frozen):
    """`recsys.optimizers.RowSparseAdam`.

    Attributes:
      learning_rate: the step size.
      beta_1, beta_2: how much of the first and second moment a step keeps.
      weight_decay: the share of a weight that a step takes, times the learning rate.
    """

    learning_rate: float = Field(default=0.001, gt=0)
    beta_1: float = Field(default=0.9, ge=0, lt=1)
    beta_2: float = Field(default=0.999, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)


class ScheduleConfig(Frozen):
    """How the learning rate changes over the steps.

    Attributes:
      warmup_steps: steps in which it grows linearly to its full size.
      decay: `cosine` lets it fall to 0 by the end of the last epoch.
    """

    warmup_steps: int = Field(default=0, ge=0)
    decay: Literal["none", "cosine"] = "none"


class OptimizerConfig(Frozen):
    """One optimizer, which touches only the rows of a batch; Adagrad where none is named.

    Attributes:
      adam, adagrad: the options of the one that is used.
      schedule: of the learning rate.
    """

    adam: AdamConfig | None = None
    adagrad: AdagradConfig | None = Field(
        default_factory=lambda others: AdagradConfig() if others.get("adam") is None else None
    )
    schedule: ScheduleConfig = ScheduleConfig()

    @model_validator(mode="after")
    def _one_only(self) -> "OptimizerConfig":
        if (self.adam is None) == (self.adagrad is None):
            raise ValueError("expected one of adagrad and adam, received both: remove one")
        return self

    @property
    def chosen(self) -> AdagradConfig | AdamConfig:
        """The options of the one that is used."""
        (chosen,) = (options for options in (self.adam, self.adagrad) if options is not None)
        return chosen


class TrainConfig(Frozen):
    """The training loop.

    Attributes:
      batch_size: rows of the global batch, over all replicas.
      epochs: at most as many passes over the train split.
      patience: stop after so many epochs without a better validation metric.
      validation_metric: what decides the best epoch, on the validation split by the `event` protocol.
      max_validation_queries: a fixed random sample of validation events is ranked each epoch.
      seed: of weights, shuffling and dropout.
    """

    batch_size: int = Field(default=1024, ge=2)
    epochs: int = Field(default=20, ge=1)
    patience: int = Field(default=3, ge=1)
    validation_metric: str = Field(default="ndcg@20", pattern=r"^(recall|ndcg|hit_rate|mrr)@[1-9]\d*$")
    max_validation_queries: int = Field(default=10_000, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)


class IndexConfig(Frozen):
    """The ScaNN index, and the quality below which it is not published.

    Attributes:
      brute_force_below: catalogues with fewer candidates are searched by ScaNN's brute force, which needs no tuning
        and is faster there.
      leaves_per_sqrt_item: partitions, as a multiple of the square root of the number of candidates.
      fraction_of_leaves: partitions searched per query.
      reorder_factor: candidates scored exactly per query, as a multiple of `k`.
      recall_target: the recall against exact search that an index must reach to be published.
      recall_k: the k of that recall.
    """

    brute_force_below: int = Field(default=5_000, ge=16)
    leaves_per_sqrt_item: float = Field(default=1.0, gt=0)
    fraction_of_leaves: float = Field(default=0.5, gt=0, le=1)
    reorder_factor: int = Field(default=8, ge=1)
    recall_target: float = Field(default=0.95, gt=0, le=1)
    recall_k: int = Field(default=100, ge=1, le=MAX_K)


class ExperimentConfig(Frozen):
    """What to learn: one file of `experiments/configs/`."""

    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    index: IndexConfig = IndexConfig()


class RuntimeConfig(Frozen):
    """Where to run: one file of `experiments/runtimes/`.

    Attributes:
      strategy: `one_device`, or `mirrored` for synchronous training on every device of this machine.
      logical_cpus: divide the CPU into so many logical devices, each a replica under `mirrored`; for tests of
        distributed training on a machine without accelerators.
    """

    strategy: Literal["one_device", "mirrored"] = "one_device"
    logical_cpus: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _logical_cpus_need_mirrored(self) -> "RuntimeConfig":
        if self.logical_cpus > 1 and self.strategy != "mirrored":
            raise ValueError("logical_cpus above 1 needs strategy = 'mirrored'")
        return self
