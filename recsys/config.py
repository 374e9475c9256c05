"""Frozen, typed configuration: what to learn (`ExperimentConfig`) and where to run (`RuntimeConfig`).

Imports no TensorFlow. Each default is written here and nowhere else.
"""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from recsys.schema import Frozen

MAX_K = 1000


def _refuse_idle(config: Frozen, option: str, needs: str) -> None:
    """Refuses an option that was chosen where nothing reads it; a file that spells out its default may stay."""
    value = getattr(config, option)
    if value != type(config).model_fields[option].default:
        raise ValueError(f"{option} = {value} changes nothing: expected {needs} beside it; add that, or remove it")


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
            _refuse_idle(self, "id_dropout", "use_id = true")
        return self


class ModelConfig(Frozen):
    """Both towers.

    Attributes:
      embedding_dim: the width of every embedding.
      initial_stddev: of fresh embeddings. Where scores are cosines, a small one lets directions settle in few steps.
      normalize: scale query and candidate embeddings to length 1, so that scores are cosines.
    """

    embedding_dim: int = Field(default=64, ge=1)
    initial_stddev: float = Field(default=0.1, gt=0)
    normalize: bool = True
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


class NegativesConfig(Frozen):
    """Further candidates that each step of a replica draws from the catalogue, for all of its queries or for one.

    They are mixed with the batch's (Yang et al., "Mixed negative sampling for learning two-tower neural networks in
    recommendations", 2020): what is hardly ever taken is then pushed away as well.

    Attributes:
      uniform: so many, each item as likely as any other.
      popular: so many, each item in proportion to its train interactions to the power of `popularity_power`.
      popularity_power: 1 draws as batches do, less more evenly.
      hard: so many for each query alone, out of its user's `hard_depth` hardest (Xiong et al., "Approximate nearest
        neighbor negative contrastive learning for dense text retrieval", ICLR 2021). What stands in the batch as well
        counts there, too: between once and twice in the mean, where other items count once.
      hard_depth: so many items of highest score that a user did not take in train are held for each, 4 bytes apiece,
        and found anew as each epoch begins.
    """

    uniform: int = Field(default=0, ge=0)
    popular: int = Field(default=0, ge=0)
    popularity_power: float = Field(default=0.75, gt=0)
    hard: int = Field(default=0, ge=0)
    hard_depth: int = Field(default=100, ge=1)

    @model_validator(mode="after")
    def _no_option_is_idle(self) -> "NegativesConfig":
        if not self.popular:
            _refuse_idle(self, "popularity_power", "popular above 0")
        if not self.hard:
            _refuse_idle(self, "hard_depth", "hard above 0")
        return self


class InBatchLossConfig(Frozen):
    """Softmax over the global batch's candidates, and others that are drawn from the catalogue.

    Attributes:
      temperature: scores are divided by it.
      learn_temperature: whether it is learned, beginning there.
      log_q: where each candidate's sampling probability comes from, whose logarithm is subtracted from its score, so
        that popular items are not punished for being negatives more often: `train_counts`, or a `streaming` estimate
        from the batches themselves; or `none`.
      streaming_rate: how much of an item's mean a new observation replaces in a streaming estimate.
      mask: whose softmax weight as a negative is exactly 0. `accidental_hits`: items that are the query's own positive;
        `known_positives`: all items that the query's user took anywhere in train, too, for a search per such item.
      negatives: drawn from the catalogue.
      num_hardest: only so many negatives of each query count, those with the highest scores, as corrected; all when
        None.
    """

    name: Literal["in_batch_softmax"] = "in_batch_softmax"
    temperature: float = Field(default=0.1, gt=0)
    learn_temperature: bool = False
    log_q: Literal["none", "train_counts", "streaming"] = "train_counts"
    streaming_rate: float = Field(default=0.01, gt=0, le=1)
    mask: Literal["nothing", "accidental_hits", "known_positives"] = "accidental_hits"
    negatives: NegativesConfig = NegativesConfig()
    num_hardest: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _no_option_is_idle(self) -> "InBatchLossConfig":
        if self.log_q != "streaming":
            _refuse_idle(self, "streaming_rate", "log_q = 'streaming'")
        return self


class FullLossConfig(Frozen):
    """Softmax over the whole catalogue: exact, and its cost per example grows with the catalogue.

    Attributes:
      temperature: scores are divided by it.
      learn_temperature: whether it is learned, beginning there.
    """

    name: Literal["full_softmax"] = "full_softmax"
    temperature: float = Field(default=0.1, gt=0)
    learn_temperature: bool = False


def _named(default: str) -> Discriminator:
    """Tells the members of a union apart by `name`, which is `default` where it is left out."""

    def name_of(value: Any) -> str:
        return str(value.get("name", default) if isinstance(value, dict) else getattr(value, "name", default))

    return Discriminator(name_of)


LossConfig = Annotated[
    Annotated[InBatchLossConfig, Tag("in_batch_softmax")] | Annotated[FullLossConfig, Tag("full_softmax")],
    _named("in_batch_softmax"),
]


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


TrainHistory = Literal["before", "others"]


class TrainConfig(Frozen):
    """The training loop.

    Attributes:
      examples: `interactions`, one query per train row with the history before it; or `sequences`, users' train
        items as a whole, with a query for the next item at every position, which shares the work of encoding.
      history: of a train row: what the user took `before` it, or all `others` of the user's train rows, later ones too,
        as the past of a held-out row in a split by chance. For data without an order; what is evaluated and served is
        always asked with the past. An item that a user took twice would see itself: leave repeats out.
      batch_size: interactions or sequences of the global batch, over all replicas.
      epochs: at most as many passes over the train split.
      patience: stop after so many epochs without a better validation metric.
      validation_metric: what decides the best epoch, on the validation split by the `event` protocol.
      max_validation_queries: a fixed random sample of validation events is ranked each epoch.
      seed: of weights, shuffling and dropout.
    """

    examples: Literal["interactions", "sequences"] = "interactions"
    history: TrainHistory = "before"
    batch_size: int = Field(default=1024, ge=2)
    epochs: int = Field(default=20, ge=1)
    patience: int = Field(default=3, ge=1)
    validation_metric: str = Field(default="ndcg@20", pattern=r"^(recall|ndcg|hit_rate|mrr|map|precision)@[1-9]\d*$")
    max_validation_queries: int = Field(default=10_000, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _sequences_have_an_order(self) -> "TrainConfig":
        if self.examples == "sequences" and self.history == "others":
            raise ValueError("examples = 'sequences' learns what comes next: expected history = 'before'")
        return self


class IndexConfig(Frozen):
    """The ScaNN index, and the quality to which `serving.autotune` tunes it, or else refuses it.

    Attributes:
      brute_force_below: catalogues with fewer candidates are searched by ScaNN's brute force, which needs no tuning
        and is faster there.
      leaves_per_sqrt_item: partitions, as a multiple of the square root of the number of candidates.
      recall_target: the recall against exact search that an index must reach to be published, with 95 % confidence.
      recall_k: the k of that recall.
      max_query_ms: the median time that a single query may take on the machine that exports; any when None.
      max_bytes_per_item: what the index may hold per candidate beside its embedding; candidates are compared by int8
        instead of float32 numbers where those take too much; any when None.
    """

    brute_force_below: int = Field(default=20_000, ge=16)
    leaves_per_sqrt_item: float = Field(default=1.0, gt=0)
    recall_target: float = Field(default=0.95, gt=0, le=1)
    recall_k: int = Field(default=100, ge=1, le=MAX_K)
    max_query_ms: float | None = Field(default=None, gt=0)
    max_bytes_per_item: float | None = Field(default=None, gt=0)


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
