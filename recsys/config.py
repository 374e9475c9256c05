"""Frozen, typed configuration: what to learn (`ExperimentConfig`) and where to run (`RuntimeConfig`).

Imports no TensorFlow. Each default is written here and nowhere else.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from recsys.idle_options import refuse_idle
from recsys.loss_config import InBatchLossConfig, LossConfig, UnseenLossConfig
from recsys.schema import Frozen

MAX_K = 1000


class MeanEncoder(Frozen):
    """The mean of the items' embeddings."""

    name: Literal["mean"] = "mean"


class RecencyEncoder(Frozen):
    """A weighted mean.

    Attributes:
      half_life: an item weighs half as much as one that came so many items later.
    """

    name: Literal["recency"] = "recency"
    half_life: float = Field(default=5.0, gt=0)


class GruEncoder(Frozen):
    """A gated recurrent unit (Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", 2016).

    Attributes:
      dropout: fraction of the embeddings' units dropped in training.
    """

    name: Literal["gru"] = "gru"
    dropout: float = Field(default=0.2, ge=0, lt=1)


class SelfAttentionEncoder(Frozen):
    """Causal self-attention (Kang and McAuley, "Self-Attentive Sequential Recommendation", 2018), normalized first.

    Attributes:
      blocks: of attention and a feed-forward layer each.
      heads: of each attention; they divide the embedding.
      dropout: fraction of units dropped in training, of embeddings and after every layer.
    """

    name: Literal["self_attention"] = "self_attention"
    blocks: int = Field(default=2, ge=1)
    heads: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)


class HistoryConfig(Frozen):
    """How the items that a user took before are seen by the query tower.

    Attributes:
      encoder: what makes one embedding of theirs.
      length: so many of the latest items are seen; all that the dataset has when None.
      share_item_table: look history up in the candidate tower's id table instead of in one of its own.
      id_dropout: fraction of the history's items made out-of-vocabulary in training.
      content_features: whether the items' features beside their ids are seen, as the candidate tower embeds them.
    """

    encoder: Annotated[
        MeanEncoder | RecencyEncoder | GruEncoder | SelfAttentionEncoder, Field(discriminator="name")
    ] = MeanEncoder()
    length: int | None = Field(default=None, ge=1)
    share_item_table: bool = True
    id_dropout: float = Field(default=0.1, ge=0, lt=1)
    content_features: bool = False


class TowerConfig(Frozen):
    """One tower. Features are embedded, pooled, summed, and passed through the hidden layers.

    Attributes:
      use_id: whether the user's or item's own id is a feature.
      id_dropout: fraction of ids made out-of-vocabulary in training, so that unknown users and items are served well
        by everything else that is known of them.
      content_features: whether the features beside the id and the history are used.
      pooling: what becomes of the embeddings of a feature with several values: their mean, their sum, or a mean in
        which each weighs by a learned query. A history that sees content sees it as the candidate tower does.
      hidden_units: widths of ReLU layers; a linear layer to `embedding_dim` follows when there are any.
      dropout: fraction of each hidden layer's units dropped in training.
    """

    use_id: bool = True
    id_dropout: float = Field(default=0.1, ge=0, lt=1)
    content_features: bool = True
    pooling: Literal["mean", "sum", "attention"] = "mean"
    hidden_units: tuple[Annotated[int, Field(ge=1)], ...] = ()
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _no_option_is_idle(self) -> "TowerConfig":
        if not self.use_id:
            refuse_idle(self, "id_dropout", "use_id = true")
        if not self.hidden_units:
            refuse_idle(self, "dropout", "hidden_units")
        return self


class ModelConfig(Frozen):
    """Both towers.

    Attributes:
      embedding_dim: the width of every embedding.
      initial_stddev: of fresh embeddings. Where scores are cosines, a small one lets directions settle in few steps.
      normalize: scale query and candidate embeddings to length 1, so that scores are cosines, `item_bias` apart.
      item_bias: the last unit of a candidate's embedding is its bias, which every score has in it, whoever asks: what
        is popular need not lie near to everybody then. It is not scaled with the others.
    """

    embedding_dim: int = Field(default=64, ge=1)
    initial_stddev: float = Field(default=0.1, gt=0)
    normalize: bool = True
    item_bias: bool = False
    history: HistoryConfig = HistoryConfig()
    query: TowerConfig = TowerConfig()
    candidate: TowerConfig = TowerConfig()

    @model_validator(mode="after")
    def _heads_divide_the_embedding(self) -> "ModelConfig":
        encoder = self.history.encoder
        if isinstance(encoder, SelfAttentionEncoder) and self.embedding_dim % encoder.heads:
            raise ValueError(
                f"history.encoder.heads = {encoder.heads} must divide embedding_dim = {self.embedding_dim}"
            )
        return self

    @model_validator(mode="after")
    def _a_bias_leaves_units(self) -> "ModelConfig":
        if self.item_bias and self.embedding_dim < 2:
            raise ValueError("item_bias takes one unit of embedding_dim = 1: expected 2 units or more")
        return self


class AdagradConfig(Frozen):
    """`recsys.optimizers.RowSparseAdagrad`.

    Attributes:
      learning_rate: the step size.
      initial_accumulator: the starting value of the squared-gradient sums.
      weight_decay: the share of a weight that a step takes, times the learning rate.
    """

    learning_rate: float = Field(default=0.3, gt=0)
    initial_accumulator: float = Field(default=0.1, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)


class AdamConfig(Frozen):
    """`recsys.optimizers.RowSparseAdam`.

    Attributes:
      learning_rate: the step size.
      beta_1, beta_2: how much of the first and second moment a step keeps.
      moments_fade_by: which steps the moments of a table's row count: its `own_steps`, or `all_steps` of the training,
        so that rare rows take longer steps than frequent ones: up to 1 / √(1 - beta_2) times the learning rate.
      weight_decay: the share of a weight that a step takes, times the learning rate.
    """

    learning_rate: float = Field(default=0.001, gt=0)
    beta_1: float = Field(default=0.9, ge=0, lt=1)
    beta_2: float = Field(default=0.999, ge=0, lt=1)
    moments_fade_by: Literal["own_steps", "all_steps"] = "own_steps"
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


Examples = Literal["interactions", "sequences", "sets"]


class TrainConfig(Frozen):
    """The training loop.

    Attributes:
      examples: `interactions`, one query per train row with the history before it; `sequences`, users' train
        items as a whole, with a query for the next item at every position, which shares the work of encoding; or
        `sets`, users' train items without an order, some of which are hidden anew in each epoch, to be found by the
        rest: for a held-out row in a split by chance, or data without times.
      hidden: the probability that an item of a set is hidden.
      batch_size: interactions, sequences or sets of the global batch, over all replicas.
      epochs: at most as many passes over the train split; exactly as many where the dataset validates nothing.
      patience: stop after so many epochs without a better validation metric.
      validation_metric: what decides the best epoch, on the validation split by the `event` protocol.
      max_validation_queries: a fixed random sample of validation events is ranked each epoch.
      seed: of weights, shuffling and dropout.
    """

    examples: Examples = "interactions"
    hidden: float = Field(default=0.5, gt=0, lt=1)
    batch_size: int = Field(default=1024, ge=2)
    epochs: int = Field(default=20, ge=1)
    patience: int = Field(default=3, ge=1)
    validation_metric: str = Field(default="ndcg@20", pattern=r"^(recall|ndcg|hit_rate|mrr|map|precision)@[1-9]\d*$")
    max_validation_queries: int = Field(default=10_000, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _no_option_is_idle(self) -> "TrainConfig":
        if self.examples != "sets":
            refuse_idle(self, "hidden", "examples = 'sets'")
        return self


class IndexConfig(Frozen):
    """The ScaNN index, and the quality to which `serving.autotune` tunes it, or else refuses it.

    Attributes:
      brute_force_below: catalogues with fewer candidates are searched by ScaNN's brute force, which needs no tuning
        and is faster there.
      leaves_per_sqrt_item: the numbers of partitions to choose from, or the one, as multiples of the square root of the
        number of candidates.
      recall_target: the recall against exact search that an index must reach to be published, with 95 % confidence.
      recall_k: the k of that recall.
      max_query_ms: the median time that a single query may take on the machine that exports; any when None.
      max_bytes_per_item: what the index may hold in memory per candidate beside its embedding; the best candidates are
        compared by bfloat16 or int8 instead of float32 numbers where those take too much; any when None.
    """

    brute_force_below: int = Field(default=20_000, ge=16)
    leaves_per_sqrt_item: tuple[Annotated[float, Field(gt=0, le=16)], ...] = Field(default=(1.0, 2.0), min_length=1)
    recall_target: float = Field(default=0.95, gt=0, le=1)
    recall_k: int = Field(default=100, ge=1, le=MAX_K)
    max_query_ms: float | None = Field(default=None, gt=0)
    max_bytes_per_item: float | None = Field(default=None, gt=0)

    @field_validator("leaves_per_sqrt_item", mode="before")
    @classmethod
    def _one_is_a_choice_too(cls, value: object) -> object:
        return (value,) if isinstance(value, int | float) else value


class BundleConfig(Frozen):
    """What a bundle holds beside towers and index.

    Attributes:
      user_items: the items that each user took. They are the history of a request that gives none, and are never
        recommended. Without them a known user is told by features alone, and nothing is left out but what a request
        names; the bundle is smaller, and holds no list of who took what.
    """

    user_items: bool = True


class ExportConfig(Frozen):
    """What may be chosen anew when a run is exported."""

    index: IndexConfig = IndexConfig()
    bundle: BundleConfig = BundleConfig()


class ExperimentConfig(Frozen):
    """What to learn, and how to export it: one file of `experiments/configs/`."""

    model: ModelConfig = ModelConfig()
    loss: LossConfig = InBatchLossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    index: IndexConfig = IndexConfig()
    bundle: BundleConfig = BundleConfig()

    @model_validator(mode="after")
    def _sets_have_their_loss(self) -> "ExperimentConfig":
        if (self.train.examples == "sets") != isinstance(self.loss, UnseenLossConfig):
            raise ValueError(
                f"train.examples = '{self.train.examples}' and loss.name = '{self.loss.name}': expected 'sets' and "
                "'unseen_softmax' together, or neither"
            )
        if isinstance(self.loss, UnseenLossConfig) and not self.model.normalize:
            raise ValueError(
                "loss.name = 'unseen_softmax' has no lower bound for longer embeddings: expected model.normalize = true"
            )
        return self

    @property
    def for_export(self) -> ExportConfig:
        """The part of it that an export may change."""
        return ExportConfig(index=self.index, bundle=self.bundle)


class RuntimeConfig(Frozen):
    """Where to run: one file of `experiments/runtimes/`.

    Attributes:
      strategy: `one_device`, or `mirrored` for synchronous training on every device of this machine.
      logical_cpus: divide the CPU into so many logical devices, each a replica under `mirrored`; for tests of
        distributed training on a machine without accelerators.
      mixed_precision: `bfloat16` computes hidden layers and encoders of histories in that type; weights, embeddings,
        what towers give, the loss and its softmax stay float32. An exported model computes in float32.
      xla: compile the training step by XLA, with static shapes only.
      profile_batches: the first and the last batch, counted from 1 in the first epoch, of which TensorBoard's profiler
        gets to see what host and devices do; none when None, and none of a run that goes on after that epoch.
    """

    strategy: Literal["one_device", "mirrored"] = "one_device"
    logical_cpus: int = Field(default=1, ge=1)
    mixed_precision: Literal["none", "bfloat16"] = "none"
    xla: bool = False
    profile_batches: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = None

    @model_validator(mode="after")
    def _logical_cpus_need_mirrored(self) -> "RuntimeConfig":
        if self.logical_cpus > 1 and self.strategy != "mirrored":
            raise ValueError("logical_cpus above 1 needs strategy = 'mirrored'")
        return self

    @field_validator("mixed_precision", mode="before")
    @classmethod
    def _float16_needs_loss_scaling(cls, value: Any) -> Any:
        if value == "float16":
            raise ValueError(
                "float16 needs scaled losses, which are not supported: expected bfloat16, which does not, or none"
            )
        return value

    @model_validator(mode="after")
    def _xla_compiles_one_replica(self) -> "RuntimeConfig":
        if self.xla and self.strategy != "one_device":
            raise ValueError("xla = true needs strategy = 'one_device': XLA compiles a step for a single device")
        return self

    @model_validator(mode="after")
    def _profile_ends_after_it_begins(self) -> "RuntimeConfig":
        if self.profile_batches is not None and self.profile_batches[0] > self.profile_batches[1]:
            raise ValueError(f"profile_batches = {list(self.profile_batches)}: expected the first batch, then the last")
        return self
